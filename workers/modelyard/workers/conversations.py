"""Chat items of a prepared dataset, and prompt templates put around them."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.domain.specs.prompts import Template
from modelyard.workers.dataset import Message, open_dataset, split_completion
from modelyard.workers.recipe import BadData


@dataclass(frozen=True)
class Conversation:
    """What was asked, and the answer the dataset holds to be right."""

    position: int
    """Line in the file, from 1: how reports name the item."""
    messages: tuple[Message, ...]
    """Everything before the last answer."""
    reference: str


def read_conversations(folder: Path, split: str) -> list[Conversation]:
    """Read `train` or `heldout` of a chat dataset. Raises `BadData` naming file and line."""
    dataset = open_dataset(folder, "chat")
    try:
        return list(_parse_rows(dataset.rows(split), f"{split}.jsonl"))
    except FileNotFoundError:
        raise BadData(f"{split}.jsonl is missing from the dataset; prepare it again") from None


def sample_conversations(conversations: list[Conversation], count: int, seed: int) -> list[Conversation]:
    """Draw `count` items without replacement; the same seed draws the same items. Fewer are all taken.

    Raises `BadData` when there are not two: no interval could be given.
    """
    if len(conversations) < 2:
        raise BadData(f"heldout.jsonl has {len(conversations)} items; at least 2 are needed, prepare a larger dataset")
    return random.Random(seed).sample(conversations, min(count, len(conversations)))  # noqa: S311 - a draw, not a secret


def apply_template(messages: list[Message], template: Template | None) -> list[Message]:
    """Add the template's system text where there is none, and put its `user` round the last thing the user said."""
    if template is None:
        return messages
    shaped = [dict(message) for message in messages]
    for message in reversed(shaped):
        if message["role"] == "user":
            # Not str.format: braces in the user's words are the user's.
            message["content"] = template.user.replace("{prompt}", message["content"])
            break
    if template.system is not None and not any(message["role"] == "system" for message in shaped):
        shaped.insert(0, {"role": "system", "content": template.system})
    return shaped


def read_template(folder: Path) -> Template:
    """Read the `prompt.json` the prompt stage wrote. Raises `BadData` when it is not one."""
    path = folder / "prompt.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Template(name=document["name"], system=document["system"], user=document["user"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadData(f"{path.name} is not a prompt with name, system and user: {error}") from error


def last_user_text(messages: list[Message]) -> str:
    """Return the last thing the user said, or an empty text."""
    return next((str(message["content"]) for message in reversed(messages) if message["role"] == "user"), "")


def _parse_rows(rows: Iterator[dict[str, Any]], file: str) -> Iterator[Conversation]:
    for position, row in enumerate(rows, start=1):
        try:
            messages, answer = split_completion(row["messages"])
            if answer["role"] != "assistant" or not messages or not answer["content"]:
                raise ValueError("the last message must be a non-empty answer of the assistant, after a question")
            yield Conversation(position, tuple(messages), answer["content"])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise BadData(f"{file} line {position}: {type(error).__name__}: {error}; prepare the dataset again") from error
