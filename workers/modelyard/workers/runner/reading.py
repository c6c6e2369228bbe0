"""Following the files a recipe writes: whole lines only, by byte offset, so that nothing is read twice or in halves."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHUNK_BYTES = 64 * 1024
EVENT_CHUNK_BYTES = 1024 * 1024
"""Events taken at once, about ten thousand points: more would hold up the database and fill the memory."""
LOG_LIMIT_BYTES = 4 * 1024 * 1024
"""More than this of one rank's log stays on the worker's disk only."""
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


@dataclass
class EventReader:
    """Reads complete lines of `events.jsonl`."""

    path: Path
    offset: int = 0

    def read(self) -> tuple[list[dict[str, Any]], int]:
        """Some events after `offset`, and the offset behind them. The caller moves `offset` once they are safe."""
        data = _read_from(self.path, self.offset, EVENT_CHUNK_BYTES)
        if b"\n" not in data and len(data) == EVENT_CHUNK_BYTES:  # one line larger than a chunk
            data = _read_from(self.path, self.offset, limit=None)
        complete = data[: data.rfind(b"\n") + 1]
        return [_parse(line) for line in complete.splitlines() if line.strip()], self.offset + len(complete)

    def is_behind(self) -> bool:
        """Whether at least another chunk is there."""
        try:
            return self.path.stat().st_size - self.offset >= EVENT_CHUNK_BYTES
        except FileNotFoundError:
            return False


@dataclass
class LogReader:
    """Reads a rank's log in chunks of complete lines; progress bars that redraw a line count as their last state."""

    path: Path
    rank: int
    offset: int = 0

    def read(self, is_last: bool = False) -> tuple[str, int]:
        """Text after `offset`, and the offset behind it. `is_last`: the writer is gone, an unfinished line counts too."""
        if self.offset >= LOG_LIMIT_BYTES:
            return "", self.offset
        data = _read_from(self.path, self.offset, CHUNK_BYTES)
        end = data.rfind(b"\n") + 1
        if end == 0 and (is_last or len(data) == CHUNK_BYTES):
            end = len(data)
        text = "".join(f"{_last_state(line)}\n" for line in data[:end].decode(errors="replace").split("\n")[:-1])
        if end and not data[:end].endswith(b"\n"):
            text += _last_state(data[:end].decode(errors="replace").split("\n")[-1])
        offset = self.offset + end
        if offset >= LOG_LIMIT_BYTES:
            text += f"[the log goes on in {self.path.name} on the worker: only {LOG_LIMIT_BYTES // 2**20} MiB are kept here]\n"
        return text, offset


def last_lines(path: Path, count: int = 50) -> list[str]:
    """The last lines of a log that are not empty, oldest first; none if there is no log."""
    size = path.stat().st_size if path.exists() else 0
    text = _read_from(path, max(size - CHUNK_BYTES, 0), CHUNK_BYTES).decode(errors="replace")
    return [line for line in map(_last_state, text.split("\n")) if line.strip()][-count:]


def _read_from(path: Path, offset: int, limit: int | None) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(-1 if limit is None else limit)
    except FileNotFoundError:
        return b""


def _last_state(line: str) -> str:
    return _ESCAPES.sub("", line.rstrip("\r").rsplit("\r", 1)[-1])


def _parse(line: bytes) -> dict[str, Any]:
    try:
        event: dict[str, Any] = json.loads(line)
        return event if isinstance(event.get("type"), str) else {"type": "unreadable", "line": line.decode(errors="replace")}
    except (ValueError, AttributeError):
        return {"type": "unreadable", "line": line.decode(errors="replace")[:1000]}
