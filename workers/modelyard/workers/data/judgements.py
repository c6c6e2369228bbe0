"""Give raw records the shape of data that says which answers are good: preferences, ratings, problems with their answers."""

from typing import Any

from modelyard.workers.data.cleaning import clean
from modelyard.workers.data.records import Record
from modelyard.workers.data.rows import Row, to_messages
from modelyard.workers.data.turns import name_columns, read_messages, read_side, read_string
from modelyard.workers.dataset import Message
from modelyard.workers.recipe import BadData

LABELS = {"true": True, "1": True, "false": False, "0": False}
PROMPTS = ("messages", "prompt", "question")
"""Columns that may hold what is asked."""


def to_preference(record: Record) -> Row:
    """Return prompt turns and two answers, the better one first. Raises `BadData` naming the place.

    `chosen` and `rejected` are answers beside a prompt, or whole conversations that differ in the last turn.
    """
    _need(record, "a preference", "chosen", "rejected")
    sides = [read_side(record.values[name], name, "assistant", record) for name in ("chosen", "rejected")]
    for name, side in zip(("chosen", "rejected"), sides, strict=True):
        if side[-1]["role"] != "assistant":
            raise BadData(f"{record.place}: `{name}` must end with an answer (assistant), ends with {side[-1]['role']}")
    prompts = [side[:-1] for side in sides]
    if prompts[0] != prompts[1]:
        raise BadData(f"{record.place}: `chosen` and `rejected` must differ in the last turn only; their earlier turns differ")
    chosen, rejected = (side[-1]["content"] for side in sides)
    # Whole conversations repeat the prompt, which may stand beside them once more.
    return {"messages": _check_prompt(prompts[0] or _read_prompt(record), record), "chosen": chosen, "rejected": rejected}


def to_rating(record: Record) -> Row:
    """Return a conversation and whether its answer is a good one. Raises `BadData` naming the place."""
    _need(record, "a rating", "label")
    label = record.values["label"]
    if str(label).lower() not in LABELS:
        raise BadData(f"{record.place}: `label` must be true or false, is {label!r}")
    return {"messages": to_messages(record), "label": LABELS[str(label).lower()]}


def to_problem(record: Record) -> Row:
    """Return prompt turns and the answer they are checked against. Raises `BadData` naming the place."""
    _need(record, "a problem", "answer")
    answer = record.values["answer"]
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = f"{answer:.15g}"
    return {
        "messages": _check_prompt(_read_prompt(record), record),
        "answer": clean(read_string(answer, "answer", record)).strip(),
    }


def _need(record: Record, what: str, *columns: str) -> None:
    missing = [name for name in columns if name not in record.values]
    if missing:
        raise BadData(f"{record.place}: {what} needs `{missing[0]}`; found {name_columns(record)}")


def _read_prompt(record: Record) -> list[Message]:
    for name in PROMPTS:
        value: Any = record.values.get(name)
        if value is not None:
            return read_messages(value, name, record) if name == "messages" else read_side(value, name, "user", record)
    raise BadData(f"{record.place}: nothing is asked: no `messages`, `prompt` or `question`; found {name_columns(record)}")


def _check_prompt(messages: list[Message], record: Record) -> list[Message]:
    roles = [message["role"] for message in messages]
    if not roles or roles[-1] != "user":
        raise BadData(f"{record.place}: what is asked must end with the user's turn; roles: {roles}")
    return messages
