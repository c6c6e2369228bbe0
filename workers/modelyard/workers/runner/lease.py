"""A lease: renewed by a thread of its own, whatever long transfer the rest of the runner is busy with.

If it cannot be renewed in time, the runner ends its own tree before the lease could be given to somebody else. Two watch:
a thread, which can say why in the log, and a moment later the kernel, which ends even a runner that was stopped and
cannot act any more. Whatever it then still had in hand is fenced off by the attempt number.
"""

import os
import threading
from collections.abc import Callable

from modelyard.domain.jobs.lifecycle import StaleAttempt
from modelyard.domain.jobs.ownership import renew
from modelyard.kit.database import Database
from modelyard.kit.logs import get_logger
from modelyard.workers.runner.deadline import KernelDeadline, boot_time

RENEWALS_PER_LEASE = 4
LONGEST_INTERVAL_SECONDS = 1.0
"""Also how long a cancel takes to be noticed."""
WATCH_SHARE = 0.85
"""The thread ends the tree after this share of the lease without a renewal."""
DEADLINE_SHARE = 0.9
"""The kernel ends the runner after this share; the scheduler gives the job away only after 1.25 of the lease."""
log = get_logger(__name__)


def renewal_of(database: Database, job_id: str, attempt: int, seconds: float) -> Callable[[], str | None]:
    """What renews the lease of an attempt. Returns why the platform wants it to save and leave, if it does."""

    def renew_once() -> str | None:
        with database.write() as session:
            return renew(session, job_id, attempt, seconds).stop_requested

    return renew_once


class Lease:
    """Keeps one lease until it is released or the process ends.

    `renew_once` prolongs it by `seconds` from a moment after it was called, returns the wish to stop, if any, and raises
    `StaleAttempt` when the lease is lost for good. One thread renews; another, which never touches the database, watches
    the clock: a database that hangs instead of refusing must not keep the first from noticing.
    """

    def __init__(self, renew_once: Callable[[], str | None], seconds: float, kill_tree: Callable[[], None]) -> None:
        self._renew_once, self._seconds, self._kill_tree = renew_once, seconds, kill_tree
        self._interval = min(seconds / RENEWALS_PER_LEASE, LONGEST_INTERVAL_SECONDS)
        self._released = threading.Event()
        self._held = threading.Event()
        self._lock = threading.Lock()
        self._deadline = KernelDeadline()
        self._renewed_at = boot_time()
        self.stop_requested: str | None = None
        """Why the platform wants the attempt to save and leave."""

    def start(self, claimed_at: float | None = None) -> None:
        """Begin to renew, and to watch.

        `claimed_at`: a moment of `boot_time()` before the claim, where it is known: until the first renewal that serves as one.
        """
        if claimed_at is not None:
            self._renewed_at = claimed_at
            self._held.set()
        self._deadline.move(self._renewed_at + self._seconds * DEADLINE_SHARE)
        for name, action in (("lease", self._keep), ("lease watch", self._watch)):
            threading.Thread(target=action, name=name, daemon=True).start()

    def wait_until_held(self) -> None:
        """Return once its deadline says when to end what this process starts: by the moment of the claim, or of a renewal.

        Where it was not told how long ago the claim was, e.g. by a worker frozen in between, it has to renew first. The
        deadline ends the wait.
        """
        self._held.wait()

    def release(self) -> None:
        """Stop renewing and watching: the attempt has been reported."""
        with self._lock:
            self._released.set()
            self._deadline.disarm()

    def _keep(self) -> None:
        if self._held.is_set():
            self._released.wait(max(self._renewed_at + self._interval - boot_time(), 0.0))
        while not self._released.is_set():
            self._renew()
            self._released.wait(self._interval)

    def _renew(self) -> None:
        started = boot_time()
        try:
            self.stop_requested = self._renew_once()
        except StaleAttempt as error:
            self._give_up(str(error))
        except Exception as error:  # whatever it is, the watch decides how long it may last
            log.warning("lease not renewed", error=f"{type(error).__name__}: {error}")
        else:
            self._move_deadline(started)

    def _move_deadline(self, renewed_at: float) -> None:
        with self._lock:  # a renewal under way when the lease is released must not arm the deadline again
            if not self._released.is_set():
                self._renewed_at = renewed_at
                self._deadline.move(renewed_at + self._seconds * DEADLINE_SHARE)
                self._held.set()

    def _watch(self) -> None:
        while not self._released.is_set():
            left = self._renewed_at + self._seconds * WATCH_SHARE - boot_time()
            if left <= 0:
                self._give_up("The lease could not be renewed in time")
            self._released.wait(max(left, 0.0))

    def _give_up(self, why: str) -> None:
        if self._released.is_set():
            return
        log.warning("ending the attempt", why=why)
        self._kill_tree()
        os._exit(0)
