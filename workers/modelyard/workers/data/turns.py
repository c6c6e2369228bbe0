"""Read the turns of a conversation out of a record's columns."""

import json
from typing import Any

from modelyard.workers.data.cleaning import clean
from modelyard.workers.data.records import Record
from modelyard.workers.dataset import Message
from modelyard.workers.recipe import BadData

ROLES = ("system", "user", "assistant")


def read_side(value: Any, column: str, role: str, record: Record) -> list[Message]:
    """Read a prompt or completion: text, or a list of messages as TRL's conversational format has them."""
    if isinstance(value, list):
        return read_messages(value, column, record)
    return [make_message(role, read_string(value, column, record))]


def read_messages(value: Any, column: str, record: Record) -> list[Message]:
    """Read a list of messages, or the JSON of one. Raises `BadData` naming the place."""
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
        messages.append(make_message(message["role"], read_string(message.get("content"), f"content` of turn `{number}", record)))
    return messages


def check_turns(messages: list[Message], record: Record) -> list[Message]:
    """Return a conversation that asks and is answered. Raises `BadData` for another."""
    roles = [message["role"] for message in messages]
    if roles[-1] != "assistant" or "user" not in roles:
        raise BadData(f"{record.place}: a conversation must ask (user) and end with an answer (assistant); roles: {roles}")
    return messages


def make_message(role: str, content: str) -> Message:
    """Return a cleaned turn."""
    return {"role": role, "content": clean(content).strip()}


def read_string(value: Any, column: str, record: Record) -> str:
    """Return a text. Raises `BadData` for anything else."""
    if not isinstance(value, str):
        raise BadData(f"{record.place}: `{column}` must be text, is {type(value).__name__}")
    return value


def name_columns(record: Record) -> str:
    """Return the names of a record's columns, for messages."""
    return ", ".join(f"`{name}`" for name in record.values) or "no columns"
