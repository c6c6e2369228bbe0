"""From tokens to text: one answer as it grows."""

from typing import Any

from tokenizers.decoders import DecodeStream


class Answer:
    """Text of an answer, cut at the client's stop texts. A character of several tokens comes out whole."""

    def __init__(self, tokenizer: Any, prompt_tokens: int, end_tokens: list[int], stops: list[str]) -> None:
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = 0
        """Tokens computed, the end token included."""
        self.finish_reason = "length"
        """`stop` once the model ended the answer or a stop text appeared."""
        self._tokenizer = tokenizer.backend_tokenizer
        self._end_tokens, self._stops = end_tokens, stops
        self._stream = DecodeStream([], skip_special_tokens=True)
        self._held = ""
        """Text that may be the beginning of a stop text."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing may follow."""
        return self.finish_reason == "stop"

    @property
    def usage(self) -> dict[str, int]:
        """Return OpenAI's usage object."""
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }

    def add(self, tokens: list[int]) -> str:
        """Take new tokens; return the text that is certain by now."""
        text = ""
        for token in tokens:
            if self.is_finished:
                break
            self.completion_tokens += 1
            if token in self._end_tokens:
                self.finish_reason = "stop"
            text += self._cut(self._stream.step(self._tokenizer, token) or "")
        return text

    def rest(self) -> str:
        """Return what was held back, when no more tokens come."""
        held, self._held = self._held, ""
        return held

    def _cut(self, text: str) -> str:
        self._held += text
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.finish_reason = "stop"
            certain, self._held = self._held[: min(places)], ""
            return certain
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        certain, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return certain


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
