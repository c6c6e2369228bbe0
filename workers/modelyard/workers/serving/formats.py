"""OpenAI's response objects: https://platform.openai.com/docs/api-reference/chat and /completions."""

import json
import time
import uuid
from typing import Any, Protocol

from modelyard.workers.serving.answer import Answer

DONE = "data: [DONE]\n\n"
"""How OpenAI closes a stream; clients that wait for it would hang without."""


class Format(Protocol):
    """How one kind of answer is written, whole or in chunks."""

    def whole(self, text: str, answer: Answer) -> dict[str, Any]:
        """Return the answer in one piece."""

    def chunk(self, text: str, finish_reason: str | None) -> dict[str, Any]:
        """Return one piece of a stream."""

    def usage_chunk(self, usage: dict[str, int]) -> dict[str, Any]:
        """Return the chunk without choices that carries the usage."""


class ChatFormat:
    """`chat.completion` and `chat.completion.chunk`."""

    def __init__(self, model: str) -> None:
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._is_first = True

    def whole(self, text: str, answer: Answer) -> dict[str, Any]:
        """Return a `chat.completion`."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": answer.usage}

    def chunk(self, text: str, finish_reason: str | None) -> dict[str, Any]:
        """Return a `chat.completion.chunk`; the first one names the role."""
        delta = {"role": "assistant"} if self._is_first else {}
        self._is_first = False
        choice = {"index": 0, "delta": delta | ({"content": text} if text else {}), "finish_reason": finish_reason}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def usage_chunk(self, usage: dict[str, int]) -> dict[str, Any]:
        """Return a chunk without choices."""
        return {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage}


class CompletionFormat:
    """`text_completion`, the same object whole and in chunks."""

    def __init__(self, model: str) -> None:
        head = {"id": f"cmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._head = {**head, "object": "text_completion"}

    def whole(self, text: str, answer: Answer) -> dict[str, Any]:
        """Return a `text_completion`."""
        return {**self.chunk(text, answer.finish_reason), "usage": answer.usage}

    def chunk(self, text: str, finish_reason: str | None) -> dict[str, Any]:
        """Return a piece of it."""
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head, "choices": [choice]}

    def usage_chunk(self, usage: dict[str, int]) -> dict[str, Any]:
        """Return a chunk without choices."""
        return {**self._head, "choices": [], "usage": usage}


def event(data: dict[str, Any]) -> str:
    """Write one server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
