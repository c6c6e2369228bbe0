"""What a deployment answered: one line of `interactions.jsonl` per request."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modelyard.workers.recipe import BadData

FILE = "interactions.jsonl"
CLIENT_LEFT = 499
"""Recorded when the client went away before the end, as nginx does: nobody's error."""


class Interaction(BaseModel):
    """One request and what became of it."""

    model_config = ConfigDict(extra="ignore")

    id: str
    created_at: datetime
    messages: list[Any]
    """As the client sent them, whatever that was: refused requests are recorded too."""
    answer: str | None = None
    status: int
    """HTTP status the client got."""
    latency_seconds: float = Field(ge=0)
    time_to_first_token_seconds: float | None = None
    """Only of streams: otherwise all tokens come at once."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    streamed: bool = False

    @property
    def is_answered(self) -> bool:
        """Whether the client got what it asked for."""
        return self.status < 400

    @property
    def is_refused(self) -> bool:
        """Whether the request was at fault: such prompts never reached the model."""
        return 400 <= self.status < CLIENT_LEFT

    @property
    def question(self) -> str:
        """Return the last thing the user said, or an empty text."""
        asked = [m.get("content") for m in self.messages if isinstance(m, dict) and m.get("role") == "user"]
        return _text_of(asked[-1]) if asked else ""


def read_interactions(folder: Path, most: int) -> list[Interaction]:
    """Read the most recent interactions, the oldest of them first. Raises `BadData` naming the line, or if there is none."""
    try:
        found = sorted(_parse_lines(folder / FILE), key=lambda interaction: interaction.created_at)
    except FileNotFoundError:
        raise BadData(f"the deployment's export has no {FILE}; send it requests, then monitor it") from None
    if not found:
        raise BadData(f"{FILE} is empty: the deployment has answered no request yet; send it some, then monitor it")
    return found[-most:]


def _text_of(content: Any) -> str:
    """Words of a message's content; parts of another kind than text are left out."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _parse_lines(path: Path) -> Iterator[Interaction]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield Interaction.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, first["loc"]))
                raise BadData(f"{path.name} line {number}: {place}: {first['msg']}") from error
