"""Noticing a run that stands still: a recipe says its phase, and each phase may be silent for only so long.

The judgement is pure: it is told lines and times, and asks no clock. It reads `events.jsonl` by itself, because what the
supervisor carries to the database stands still with the database, and the run does not.
"""

import json
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelyard.kit.settings import Settings

FIRST_PHASE = "load"
STEP_FACTOR = 20.0
"""In `step`, this many median times between reports are allowed, if that is more than the setting."""
REMEMBERED_STEPS = 100
READ_BYTES = 2**20


@dataclass(frozen=True)
class Stall:
    """A phase that was silent for too long."""

    phase: str
    silent_seconds: float
    limit_seconds: float
    step: int | None

    def describe(self) -> str:
        """One sentence: phase, seconds and the last step."""
        where = f"after step {self.step}" if self.step is not None else "before its first step"
        return (
            f"No sign of progress for {self.silent_seconds:.0f} s in phase {self.phase} {where} "
            f"(allowed: {self.limit_seconds:.0f} s)"
        )


@dataclass
class Watchdog:
    """What is known of a run's progress. Times are in seconds of one steady clock, chosen by the caller."""

    limits: Mapping[str, float]
    """Phase -> seconds it may be silent; for `step` the least that is allowed."""
    seen_at: float
    phase: str = FIRST_PHASE
    step: int | None = None
    _intervals: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED_STEPS))
    _reported_at: float | None = None
    """When the newest step was reported, by the recipe's clock."""

    def note(self, event: Mapping[str, Any], now: float) -> None:
        """Take in one event of the recipe. Every event is a sign of life; some say more."""
        self.seen_at = now
        if event.get("type") == "phase" and event.get("name") in self.limits:
            self.phase = str(event["name"])
            self._reported_at = None  # what lies between two phases is no step
        elif event.get("type") == "metric" and event.get("step") != self.step:
            self._note_step(event)
        elif event.get("type") == "checkpoint":
            self.step = int(event.get("step", 0))

    def find_stall(self, now: float) -> Stall | None:
        """Say that the phase has been silent for too long, if it has."""
        silent, limit = now - self.seen_at, self.limit()
        return Stall(self.phase, silent, limit, self.step) if silent > limit else None

    def limit(self) -> float:
        """Seconds the present phase may be silent."""
        floor = self.limits[self.phase]
        if self.phase != "step" or not self._intervals:
            return floor
        return max(floor, STEP_FACTOR * statistics.median(self._intervals))

    def _note_step(self, event: Mapping[str, Any]) -> None:
        self.step, at = int(event.get("step", 0)), float(event.get("at", 0.0))
        if self._reported_at is not None and at > self._reported_at:
            self._intervals.append(at - self._reported_at)
        self._reported_at = at


@dataclass
class EventTail:
    """Follows `events.jsonl` for the watchdog, whatever has been carried to the database by now."""

    path: Path
    offset: int = 0

    def read(self) -> list[dict[str, Any]]:
        """Events written since the last call, at most a mebibyte of them."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(READ_BYTES)
        except FileNotFoundError:
            return []
        complete = data[: data.rfind(b"\n") + 1] or (data if len(data) == READ_BYTES else b"")
        self.offset += len(complete)
        return [_parse(line) for line in complete.splitlines()]


def limits_of(settings: Settings) -> dict[str, float]:
    """Phase -> seconds it may be silent."""
    return {
        "load": settings.hang_load_seconds,
        "compile": settings.hang_compile_seconds,
        "step": settings.hang_step_seconds,
        "save": settings.hang_save_seconds,
        "evaluate": settings.hang_evaluate_seconds,
    }


def _parse(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}  # no JSON: a sign of life all the same
    return event if isinstance(event, dict) else {}
