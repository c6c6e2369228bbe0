"""Give raw records the shape of their schema, and name what makes two rows the same or related."""

import json
from collections.abc import Iterator
from typing import Any

from modelyard.workers.data.cleaning import clean
from modelyard.workers.data.keys import loose_key
from modelyard.workers.data.passages import split_paragraphs
from modelyard.workers.data.records import Record
from modelyard.workers.dataset import Message
from modelyard.workers.recipe import BadData

ROLES = ("system", "user", "assistant")
LINKING_CHARACTERS = 48
"""Paragraphs and user turns at least this long tie rows together; shorter ones (`Exeunt.`, `Yes.`) recur by chance."""

Row = dict[str, Any]


def to_text(record: Record) -> str:
    """Return the document of a record. Raises `BadData` when it has no text column."""
    if "text" not in record.values:
        raise BadData(f"{record.place}: no column `text`; found {_columns(record)}")
    return _string(record.values["text"], "text", record)


def to_messages(record: Record) -> list[Message]:
    """Return the conversation of a record: `messages`, or a prompt/completion or instruction/output pair of columns.

    Contents are cleaned. Raises `BadData` naming the place when the columns or turns are not those of a conversation.
    """
    values = record.values
    if "messages" in values:
        return _check_turns(_messages(values["messages"], "messages", record), record)
    if "prompt" in values and "completion" in values:
        prompt = _side(values["prompt"], "prompt", "user", record)
        return _check_turns(prompt + _side(values["completion"], "completion", "assistant", record), record)
    if "instruction" in values and "output" in values:
        asked = [_string(values[name], name, record) for name in ("instruction", "input") if values.get(name)]
        answer = _string(values["output"], "output", record)
        return _check_turns([_message("user", "\n\n".join(asked)), _message("assistant", answer)], record)
    raise BadData(
        f"{record.place}: a chat needs `messages`, `prompt` and `completion`, or `instruction` and `output`; "
        f"found {_columns(record)}"
    )


def text_of(row: Row) -> str:
    """Return everything a row says, for counting."""
    if "text" in row:
        return str(row["text"])
    return "\n".join(message["content"] for message in row["messages"])


def identity_of(row: Row) -> str:
    """Return the string that is equal for rows that are the same: texts, or roles and contents in order."""
    if "text" in row:
        return str(row["text"])
    return "\n".join(f"{message['role']}: {message['content']}" for message in row["messages"])


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


def _side(value: Any, column: str, role: str, record: Record) -> list[Message]:
    """A prompt or completion: text, or a list of messages as TRL's conversational format has them."""
    if isinstance(value, list):
        return _messages(value, column, record)
    return [_message(role, _string(value, column, record))]


def _messages(value: Any, column: str, record: Record) -> list[Message]:
    if isinstance(value, str):
        # A CSV cell can hold a list only as JSON.
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadData(f"{record.place}: `{column}` is text, but no JSON list of messages ({error})") from error
    if not isinstance(value, list) or not value:
        raise BadData(f"{record.place}: `{column}` must be a list of messages that is not empty")
    messages = []
    for number, message in enumerate(value, start=1):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise BadData(f"{record.place}: turn {number} of `{column}` needs a `role` out of {', '.join(ROLES)}")
        messages.append(_message(message["role"], _string(message.get("content"), f"content` of turn `{number}", record)))
    return messages


def _check_turns(messages: list[Message], record: Record) -> list[Message]:
    roles = [message["role"] for message in messages]
    if roles[-1] != "assistant" or "user" not in roles:
        raise BadData(f"{record.place}: a conversation must ask (user) and end with an answer (assistant); roles: {roles}")
    return messages


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": clean(content).strip()}


def _string(value: Any, column: str, record: Record) -> str:
    if not isinstance(value, str):
        raise BadData(f"{record.place}: `{column}` must be text, is {type(value).__name__}")
    return value


def _columns(record: Record) -> str:
    return ", ".join(f"`{name}`" for name in record.values) or "no columns"
