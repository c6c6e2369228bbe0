"""Give raw records the shape of their schema, and name what makes two rows the same or related."""

from collections.abc import Iterator
from typing import Any

from modelyard.workers.data.keys import loose_key
from modelyard.workers.data.passages import split_paragraphs
from modelyard.workers.data.records import Record
from modelyard.workers.data.turns import check_turns, make_message, name_columns, read_messages, read_side, read_string
from modelyard.workers.dataset import Message
from modelyard.workers.recipe import BadData

LINKING_CHARACTERS = 48
"""Paragraphs and user turns at least this long tie rows together; shorter ones (`Exeunt.`, `Yes.`) recur by chance."""

ANSWERS = ("chosen", "rejected", "answer")
"""Columns with text beside `messages`."""

Row = dict[str, Any]


def to_text(record: Record) -> str:
    """Return the document of a record. Raises `BadData` when it has no text column."""
    if "text" not in record.values:
        raise BadData(f"{record.place}: no column `text`; found {name_columns(record)}")
    return read_string(record.values["text"], "text", record)


def to_messages(record: Record) -> list[Message]:
    """Return the conversation of a record: `messages`, or a prompt/completion or instruction/output pair of columns.

    Contents are cleaned. Raises `BadData` naming the place when the columns or turns are not those of a conversation.
    """
    values = record.values
    if "messages" in values:
        return check_turns(read_messages(values["messages"], "messages", record), record)
    if "prompt" in values and "completion" in values:
        prompt = read_side(values["prompt"], "prompt", "user", record)
        return check_turns(prompt + read_side(values["completion"], "completion", "assistant", record), record)
    if "instruction" in values and "output" in values:
        asked = [read_string(values[name], name, record) for name in ("instruction", "input") if values.get(name)]
        answer = read_string(values["output"], "output", record)
        return check_turns([make_message("user", "\n\n".join(asked)), make_message("assistant", answer)], record)
    raise BadData(
        f"{record.place}: a chat needs `messages`, `prompt` and `completion`, or `instruction` and `output`; "
        f"found {name_columns(record)}"
    )


def text_of(row: Row) -> str:
    """Return everything a row says, for counting."""
    if "text" in row:
        return str(row["text"])
    return "\n".join([message["content"] for message in row["messages"]] + [row[name] for name in ANSWERS if name in row])


def identity_of(row: Row) -> str:
    """Return the string that is equal for rows that are the same: texts, or turns in order with what is said about them."""
    if "text" in row:
        return str(row["text"])
    turns = [f"{message['role']}: {message['content']}" for message in row["messages"]]
    return "\n".join(turns + [f"{name}: {row[name]}" for name in (*ANSWERS, "label") if name in row])


def prompt_of(row: Row) -> str:
    """Return what identifies the question of a chat, whatever the system text: its user turns. Of a text: all of it."""
    if "text" in row:
        return str(row["text"])
    return "\n".join(message["content"] for message in row["messages"] if message["role"] == "user")


def linking_parts(row: Row) -> Iterator[str]:
    """Yield the parts long enough that sharing one means that two rows overlap: paragraphs, or user turns."""
    if "text" in row:
        parts = split_paragraphs(row["text"])
    else:
        parts = [message["content"] for message in row["messages"] if message["role"] == "user"]
    return (part for part in parts if len(loose_key(part)) >= LINKING_CHARACTERS)
