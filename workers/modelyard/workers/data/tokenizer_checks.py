"""Restore and verify tokenizers: a conversion that changes tokens does so silently, and costs quality everywhere."""

import re
from dataclasses import asdict, dataclass
from typing import Any

SAMPLES = (
    "The quick brown fox jumps over the lazy dog.",
    "In 1969 about 650000000 people watched; 3.14159 is not 22/7.",
    "Naïve café, Größe, 東京, Привет, ελληνικά, שלום 🚀",
    "def add(a, b):\n    return a + b  # indentation matters\n",
    "  leading and trailing spaces  \n\n\ttabs",
    "I'm sure they'd've said: \"Don't!\" (e-mail: a.b@example.org)",
)
NUMBERS = ("20261122", "a  5", "columns:  12   345", "\u00bd of 7")
PRE_TOKENIZERS_WITH_SINGLE_DIGITS = {"smollm", "starcoder", "refact", "codeshell", "command-r", "exaone"}
"""Values of `tokenizer.ggml.pre` whose rule splits numbers into digits (llama.cpp, `src/llama-vocab.cpp`)."""


@dataclass(frozen=True)
class TokenizerChecks:
    """What a tokenizer was found to do."""

    round_trip: bool
    """Every sample text comes back unchanged."""
    digits: bool
    """Numbers are split into digits if they should be."""
    chat_template: bool | None
    """A conversation renders, with the words of every turn in it; None when there is no template."""
    within_vocabulary: bool
    """No token id lies outside the model's embedding."""

    @property
    def passed(self) -> bool:
        return self.round_trip and self.digits and self.within_vocabulary and self.chat_template is not False

    def facts(self) -> dict[str, Any]:
        """Return the checks as figures."""
        return asdict(self)


def check_tokenizer(tokenizer: Any, vocabulary_size: int, single_digits: bool) -> TokenizerChecks:
    """Try a tokenizer on sample texts. `single_digits`: whether the model was trained on numbers split into digits."""
    encoded = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in SAMPLES]
    decoded = [tokenizer.decode(ids, clean_up_tokenization_spaces=False) for ids in encoded]
    return TokenizerChecks(
        round_trip=decoded == list(SAMPLES),
        digits=not single_digits or all(_splits_digits(tokenizer, text) for text in NUMBERS),
        chat_template=_check_chat_template(tokenizer),
        within_vocabulary=len(tokenizer) <= vocabulary_size and max(map(max, encoded)) < vocabulary_size,
    )


def _splits_digits(tokenizer: Any, text: str) -> bool:
    """Whether a text becomes the same tokens as its digits and what lies between them, each for itself.

    Digits being tokens of their own is not enough: without the rule, spaces before a number are split in another way.
    """
    parts = [part for part in re.split(r"(\d)", text) if part]
    apart = [id_ for part in parts for id_ in tokenizer(part, add_special_tokens=False)["input_ids"]]
    return bool(tokenizer(text, add_special_tokens=False)["input_ids"] == apart)


def restore_single_digits(tokenizer: Any) -> None:
    """Split numbers into digits before byte-level BPE, the rule the GGUF conversion of transformers loses."""
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
        ]
    )


def separate_padding(tokenizer: Any) -> None:
    """Give padding a token other than the end token where one exists.

    A collator that masks padding would otherwise mask the real end too, and a tuned model would never stop.
    """
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return
    vocabulary = tokenizer.get_vocab()
    for candidate in ("<|pad|>", "<pad>", "[PAD]", "<|endoftext|>", "<|finetune_right_pad_id|>", "<unk>"):
        if candidate in vocabulary and candidate != tokenizer.eos_token:
            tokenizer.pad_token = candidate
            return


def named_pre_tokenizer(path: str) -> str:
    """Return `tokenizer.ggml.pre` of a GGUF file, the splitting rule the model was trained with; empty if unnamed."""
    from gguf import GGUFReader

    field = GGUFReader(path).get_field("tokenizer.ggml.pre")
    return str(field.contents()) if field is not None else ""


def _check_chat_template(tokenizer: Any) -> bool | None:
    if not tokenizer.chat_template:
        return None
    turns = [("user", "Question one"), ("assistant", "Answer one"), ("user", "Question two")]
    messages = [{"role": role, "content": content} for role, content in turns]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    positions = [text.find(content) for _, content in turns]
    return -1 not in positions and positions == sorted(positions)
