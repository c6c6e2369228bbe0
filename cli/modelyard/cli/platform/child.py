"""One program of the platform as a child process: start it, log it, stop it."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from modelyard.cli.errors import CommandError

PR_SET_PDEATHSIG = 1
STEADY_SECONDS = 60.0
"""A child that lived so long starts with a clean slate when it dies."""
LONGEST_DELAY_SECONDS = 30.0
MAX_LOG_BYTES = 20_000_000


@dataclass(frozen=True)
class Program:
    """What to run and how to tell that it works."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    is_ready: Callable[[int], bool]
    """Given its pid: whether this very process answers."""
    stop_seconds: float = 10.0
    """After a polite request to stop, so long until it is killed."""
    descriptors: tuple[int, ...] = ()
    """File descriptors it inherits."""


def choose_delay(failures: int) -> float:
    """Seconds before a child that died `failures` times in a row is started again: 0.5, 1, 2, … 30."""
    return float(min(0.5 * 2 ** max(failures - 1, 0), LONGEST_DELAY_SECONDS))


class Child:
    """A program that is kept running."""

    def __init__(self, program: Program, log: Path) -> None:
        self.program = program
        self.log = log
        self.failures = 0
        """Deaths in a row."""
        self.due_at = 0.0
        """Monotonic time at which it may start again."""
        self.is_ready = False
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0

    @property
    def identity(self) -> tuple[int, float] | None:
        """Pid and creation time, or None while it does not run."""
        if self._process is None:
            return None
        try:
            return self._process.pid, psutil.Process(self._process.pid).create_time()
        except psutil.NoSuchProcess:
            return None

    def start(self) -> None:
        """Start it in a session of its own, its output appended to its log. Raises `CommandError`."""
        _make_room(self.log)
        try:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    self.program.command,
                    env=self.program.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=self.program.descriptors,
                    # Ctrl-C in the terminal must reach us only: we stop the workers first.
                    start_new_session=True,
                    preexec_fn=_tied_to_parent(),  # noqa: PLW1509 - the supervisor has one thread
                )
        except OSError as error:
            raise CommandError(f"{self.program.name} cannot be started: {error}") from error
        self._started_at = time.monotonic()

    def reap(self) -> int | None:
        """The exit code if it died since the last look (its next start is then due later), else None."""
        if self._process is None or self._process.poll() is None:
            return None
        code = self._process.returncode
        self._process = None
        self.is_ready = False
        now = time.monotonic()
        self.failures = 1 if now - self._started_at > STEADY_SECONDS else self.failures + 1
        self.due_at = now + choose_delay(self.failures)
        return code

    @property
    def is_running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None

    def check_ready(self) -> None:
        """Note whether it answers."""
        self.is_ready = self._process is not None and self.program.is_ready(self._process.pid)

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log, for error messages."""
        try:
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def _tied_to_parent() -> Callable[[], None] | None:
    """On Linux: a step between fork and exec; after it the child gets SIGTERM when its supervisor dies, even by `kill -9`."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    supervisor = os.getpid()

    def tie() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != supervisor:  # it died before the line above
            os.kill(os.getpid(), signal.SIGTERM)

    return tie


def _make_room(log: Path) -> None:
    """Keep one older log, so that a platform that runs for months does not fill the disk with its own chatter."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
