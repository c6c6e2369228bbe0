"""What is done about a run that stands still: ask all its ranks where they are, so that their logs say it."""

import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelyard.kit.settings import Settings
from modelyard.workers.runner.ranks import Ranks
from modelyard.workers.runner.watchdog import EventTail, Stall, Watchdog, limits_of

DUMP_SIGNAL = signal.SIGUSR1
"""Recipes answer it with the stacks of all their threads, see `run_recipe`."""
DUMP_SECONDS = 10.0
"""How long the ranks may take for it; one that is stopped never does."""
LOOK_SECONDS = 0.1
_FRAME = re.compile(r'File "(?P<file>[^"]*)", line (?P<line>\d+) in (?P<function>.*)')


@dataclass
class StallWatch:
    """The watchdog of one attempt, fed from its run folder."""

    watchdog: Watchdog
    tail: EventTail

    def look(self) -> Stall | None:
        """Take in what the recipe said since the last look, then judge. Times are the monotonic clock's."""
        for event in self.tail.read():
            self.watchdog.note(event, time.monotonic())
        return self.watchdog.find_stall(time.monotonic())


def watch_for_stalls(settings: Settings, folder: Path) -> StallWatch:
    """Begin to watch the run in a folder."""
    return StallWatch(Watchdog(limits_of(settings), time.monotonic()), EventTail(folder / "events.jsonl"))


def dump_stacks(ranks: Ranks, logs: Sequence[Path], first_rank: int = 0) -> dict[int, str | None]:
    """Have every living rank write its stacks to its log, and wait until they are there.

    Returns rank -> where its main thread is, None for one that did not answer. `first_rank`: the global number of the first.
    """
    before = _sizes(logs)
    living = [number for number, process in enumerate(ranks.processes) if process.poll() is None]
    _ask(ranks, logs, before)
    return {first_rank + number: find_place(_read_after(logs[number], before[number])) for number in living}


def _ask(ranks: Ranks, logs: Sequence[Path], before: Sequence[int]) -> None:
    for process in ranks.processes:
        if process.poll() is None:
            os.kill(process.pid, DUMP_SIGNAL)
    deadline, last = time.monotonic() + DUMP_SECONDS, before
    while time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        now = _sizes(logs)
        if now == last and all(size > old for size, old in zip(now, before, strict=True)):
            return  # all have begun, and none is writing any more
        last = now


def _read_after(log: Path, offset: int) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(offset)
        return file.read().decode("utf-8", "replace")


def find_place(dump: str) -> str | None:
    """Where a main thread is, by what `faulthandler` wrote: the innermost frame of the last thread; None without one. Pure."""
    _, found, last = dump.rpartition("(most recent call first):")
    frame = _FRAME.search(last) if found else None
    return f"{frame['function']} ({Path(frame['file']).name}:{frame['line']})" if frame else None


def name_silent(places: Mapping[int, str | None]) -> tuple[int, str] | None:
    """The rank the others wait for, and why it looks so: it did not answer, or it alone stands elsewhere. Pure.

    None where nothing tells one from the others: ranks of a collective wait in the same line for the one that is not there.
    """
    mute = sorted(rank for rank, place in places.items() if place is None)
    if mute:
        return (mute[0], f"rank {mute[0]} did not answer when asked where it is") if len(mute) < len(places) else None
    ranks_at: dict[str | None, list[int]] = {}
    for rank, place in places.items():
        ranks_at.setdefault(place, []).append(rank)
    if len(ranks_at) != 2:
        return None
    (here, alone), (there, others) = sorted(ranks_at.items(), key=lambda entry: len(entry[1]))
    return (alone[0], f"rank {alone[0]} is in {here}, the others in {there}") if len(alone) == 1 < len(others) else None


def _sizes(logs: Sequence[Path]) -> list[int]:
    return [path.stat().st_size if path.exists() else 0 for path in logs]
