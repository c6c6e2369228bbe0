"""Turn conversations into token ids, and say which of them are learned."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jinja2 import TemplateError

from modelyard.workers.dataset import Message, split_completion
from modelyard.workers.recipe import BadData

LossOn = Literal["last_answer", "answers", "all"]
Span = tuple[int, int]
"""Characters of a rendered conversation, the end excluded."""
ROWS_PER_BATCH = 256


@dataclass(frozen=True)
class Example:
    """One tokenized conversation."""

    tokens: npt.NDArray[np.int32]
    learned: npt.NDArray[np.bool_]
    """Whether the model is to predict the token; of equal length."""

    @property
    def predictions(self) -> int:
        """Tokens that count in the loss. Nothing comes before the first one, so it cannot be predicted."""
        return int(self.learned[1:].sum())


@dataclass
class CompletionSet:
    """Tokenized conversations of one split."""

    examples: list[Example] = field(default_factory=list)
    truncated: int = 0
    """Conversations cut to the sequence length that keep something to learn."""
    dropped: int = 0
    """Conversations with nothing to learn within the sequence length."""


def tokenize_completions(
    rows: Iterable[dict[str, Any]], tokenizer: Any, sequence_length: int, loss_on: LossOn = "last_answer"
) -> CompletionSet:
    """Render conversations with the chat template and tokenize them.

    Raises `BadData` when there is no template, or when it does not say where the answers are.
    """
    check_template(tokenizer)
    result = CompletionSet()
    for example in encode_conversations(rows, tokenizer, loss_on):
        cut = Example(example.tokens[:sequence_length], example.learned[:sequence_length])
        if cut.predictions == 0:
            result.dropped += 1
            continue
        result.truncated += len(example.tokens) > sequence_length
        result.examples.append(cut)
    return result


def check_template(tokenizer: Any) -> None:
    """Raise `BadData` when conversations cannot be written down as the model reads them."""
    if not tokenizer.chat_template:
        raise BadData("the model has no chat template, so it is not a chat model; choose one that is, or give chat_template")


def encode_conversations(rows: Iterable[dict[str, Any]], tokenizer: Any, loss_on: LossOn) -> Iterator[Example]:
    """Yield every conversation whole, however long, with what is learned of it."""
    remaining = iter(rows)
    while batch := list(islice(remaining, ROWS_PER_BATCH)):
        rendered = [_render(row["messages"], tokenizer, loss_on) for row in batch]
        # The template writes its special tokens itself.
        encoded = tokenizer([text for text, _ in rendered], add_special_tokens=False, return_offsets_mapping=True)
        for ids, offsets, (_, spans) in zip(encoded["input_ids"], encoded["offset_mapping"], rendered, strict=True):
            yield _label(ids, offsets, spans, tokenizer.eos_token_id)


def _label(ids: list[int], offsets: list[Span], spans: list[Span], end: int | None) -> Example:
    """Mark the tokens within the spans; a token that reaches into one belongs to it."""
    starts, ends = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
    learned = np.zeros(len(ids), dtype=np.bool_)
    for first, last in spans:
        learned |= (ends > first) & (starts < last)
    tokens = np.asarray(ids, dtype=np.int32)
    final = tokens[starts >= spans[-1][0]]
    if end is not None and end not in final:
        # A template without an end mark would teach the model never to stop.
        tokens, learned = np.append(tokens, np.int32(end)), np.append(learned, True)
    return Example(tokens, learned)


def _render(messages: list[Message], tokenizer: Any, loss_on: LossOn) -> tuple[str, list[Span]]:
    """Return a conversation as the model reads it, and which characters are learned."""
    text = write_conversation(messages, tokenizer)
    if loss_on == "all":
        return text, [(0, len(text))]
    if loss_on == "answers":
        return text, [_answer_span(messages, place, text, tokenizer) for place in _answer_places(messages)]
    prompt, _ = split_completion(messages)
    # Templates that write the past differently from the present still agree up to where the answer starts.
    shared = os.path.commonprefix([_until_answer(prompt, tokenizer), text])  # noqa: RUF071 - of characters, as meant
    return text, [(len(shared), len(text))]


def _answer_places(messages: list[Message]) -> list[int]:
    return [place for place, message in enumerate(messages) if message["role"] == "assistant"]


def _answer_span(messages: list[Message], place: int, text: str, tokenizer: Any) -> Span:
    """Find an answer by what the template writes with and without it. Raises `BadData` if that changes what is before it."""
    before = _until_answer(messages[:place], tokenizer)
    after = write_conversation(messages[: place + 1], tokenizer)
    if not (text.startswith(before) and text.startswith(after)):
        raise BadData(
            "loss_on `answers`: the chat template writes earlier turns differently when more follow, "
            "so an earlier answer is never what the model will say; use loss_on `last_answer` or `all`, or give chat_template"
        )
    return len(before), len(after)


def _until_answer(prompt: list[Message], tokenizer: Any) -> str:
    return write_conversation(prompt, tokenizer, add_generation_prompt=True)


def write_conversation(messages: list[Message], tokenizer: Any, **options: bool) -> str:
    """Return a conversation as the chat template writes it. Raises `BadData` where it cannot."""
    try:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    except TemplateError as error:  # a wrong template, or one that refuses a role or an order
        roles = ", ".join(message["role"] for message in messages)
        raise BadData(
            f"the chat template cannot write a conversation of {roles}: {error}; leave such out, or give chat_template"
        ) from error
    return text
