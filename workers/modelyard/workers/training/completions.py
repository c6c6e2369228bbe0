"""Turn conversations into token ids whose labels cover the last answer only."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from modelyard.workers.dataset import split_completion
from modelyard.workers.recipe import BadData

IGNORED = -100
"""Label of a token that does not count, by PyTorch's convention for cross-entropy."""


@dataclass
class CompletionSet:
    """Tokenized conversations of one split."""

    examples: list[dict[str, list[int]]] = field(default_factory=list)
    """`input_ids` and `labels` of equal length."""
    truncated: int = 0
    """Conversations cut to the sequence length that keep some of the answer."""
    dropped: int = 0
    """Conversations whose prompt alone fills the sequence: nothing is left to learn from."""


def tokenize_completions(rows: Iterable[dict[str, Any]], tokenizer: Any, sequence_length: int) -> CompletionSet:
    """Render conversations with the chat template and tokenize them. Raises `BadData` when there is no template."""
    if not tokenizer.chat_template:
        raise BadData("the model has no chat template, so it is not a chat model; choose one that is")
    result = CompletionSet()
    for row in rows:
        ids, start = _encode(row["messages"], tokenizer)
        if start >= sequence_length:
            result.dropped += 1
            continue
        result.truncated += len(ids) > sequence_length
        labels = [IGNORED] * start + ids[start:]
        result.examples.append({"input_ids": ids[:sequence_length], "labels": labels[:sequence_length]})
    return result


def _encode(messages: list[dict[str, str]], tokenizer: Any) -> tuple[list[int], int]:
    """Return the ids of a conversation and where its last answer starts."""
    prompt, _ = split_completion(messages)
    rendered = [
        tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True),
        tokenizer.apply_chat_template(messages, tokenize=False),
    ]
    # The template writes its special tokens itself.
    prompt_ids, ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    # Tokens may merge across the border; the answer starts where the two first differ.
    start = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt_ids, ids, strict=False)))
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ids[start:]:
        # A template without an end mark would teach the model never to stop.
        ids = [*ids, tokenizer.eos_token_id]
    return ids, start
