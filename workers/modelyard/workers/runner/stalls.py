"""What is done about a run that stands still: ask all its ranks where they are, so that their logs say it."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelyard.kit.settings import Settings
from modelyard.workers.runner.ranks import Ranks
from modelyard.workers.runner.watchdog import EventTail, Stall, Watchdog, limits_of

DUMP_SIGNAL = signal.SIGUSR1
"""Recipes answer it with the stacks of all their threads, see `run_recipe`."""
DUMP_SECONDS = 3.0
"""How long the ranks may take for it; one that is stopped never does."""
LOOK_SECONDS = 0.1


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


def dump_stacks(ranks: Ranks, logs: Sequence[Path]) -> None:
    """Have every living rank write its stacks to its log, and wait until they are there."""
    before = _sizes(logs)
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


def _sizes(logs: Sequence[Path]) -> list[int]:
    return [path.stat().st_size if path.exists() else 0 for path in logs]
