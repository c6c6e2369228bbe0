"""Keep the programs of a platform running: start, wait until ready, restart what dies, stop in order."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from modelyard.cli.console import say
from modelyard.cli.errors import CommandError
from modelyard.cli.platform.child import Child, Program
from modelyard.cli.platform.signals import Signals

READY_SECONDS = 180.0
"""A first start compiles and imports a lot on a busy machine."""
FAILED_STARTS = 3
"""A program that dies so often before it was ever ready will not get better by itself."""
CHECK_SECONDS = 0.25


class StartFailed(CommandError):
    """A program does not come up."""


class StopRequested(Exception):
    """Somebody asked us to stop while we were starting."""


class Supervisor:
    """Owns the children. `on_change` is called whenever a pid changed."""

    def __init__(self, logs: Path, signals: Signals, on_change: Callable[[dict[str, tuple[int, float]]], None]) -> None:
        self.children: dict[str, Child] = {}
        self._logs = logs
        self._signals = signals
        self._on_change = on_change

    def start(self, programs: Iterable[Program]) -> None:
        """Start programs, all at once. Raises `StartFailed`."""
        for program in programs:
            child = self.children[program.name] = Child(program, self._logs / f"{program.name}.log")
            child.start()
        self._tell()

    def wait_ready(self, timeout_seconds: float = READY_SECONDS) -> None:
        """Return when every child answers. Raises `StartFailed` with the end of the log, or `StopRequested`."""
        deadline = time.monotonic() + timeout_seconds
        while unready := [child for child in self.children.values() if not child.is_ready]:
            self.keep_running()
            for child in unready:
                child.check_ready()
                if child.failures >= FAILED_STARTS:
                    raise StartFailed(
                        f"{child.program.name} died {child.failures} times; the end of {child.log}:\n{child.tail()}"
                    )
            if time.monotonic() > deadline:
                late = unready[0]
                raise StartFailed(f"{late.program.name} is not ready after {timeout_seconds:g} s; see {late.log}:\n{late.tail()}")
            self._signals.wait(CHECK_SECONDS)
            if self._signals.stop_requests:
                raise StopRequested

    def run(self) -> None:
        """Watch until somebody asks us to stop."""
        while not self._signals.stop_requests:
            self._signals.wait(self.keep_running())

    def keep_running(self) -> float:
        """Reap the dead, start those that are due; return the seconds until the next one is due."""
        now, has_changed = time.monotonic(), False
        for child in self.children.values():
            code = child.reap()
            if code is not None:
                say(
                    f"{child.program.name} ended with {code}; it starts again in {child.due_at - now:.1f} s (log: {child.log})",
                    "yellow",
                )
            if not child.is_running and child.due_at <= time.monotonic():
                child.start()
                has_changed = True
        if has_changed:
            self._tell()
        waits = [child.due_at - time.monotonic() for child in self.children.values() if not child.is_running]
        return max(min(waits, default=3600.0), 0.05)

    def stop(self, names: Sequence[str]) -> None:
        """Ask children to stop, all at once; kill what is left when its time is over, or at the second request to stop."""
        children = [self.children[name] for name in names if name in self.children]
        for child in children:
            child.ask_to_stop()
        started = time.monotonic()
        while running := [child for child in children if child.is_running]:
            for child in running:
                child.reap()
                is_late = time.monotonic() - started > child.program.stop_seconds
                if child.is_running and (is_late or self._signals.stop_requests > 1):
                    say(f"{child.program.name} did not stop in time and is killed", "yellow")
                    child.kill()
            self._signals.wait(CHECK_SECONDS)
        for name in names:
            self.children.pop(name, None)

    def _tell(self) -> None:
        self._on_change({name: child.identity for name, child in self.children.items() if child.identity is not None})
