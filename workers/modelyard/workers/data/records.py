"""A row as a file held it, with the place it came from."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Record:
    """One raw row. `place` names file and line, for messages about it."""

    values: dict[str, Any]
    file: str
    number: int
    """Counted from 1, in `unit`s."""
    unit: str = "line"
    problem: str = ""
    """Why the row cannot be used although its file is no upload that could be put right: it is counted, not refused."""

    @property
    def place(self) -> str:
        return f"{self.file}, {self.unit} {self.number}"
