"""The lease of an attempt: renewed by threads of its own, whatever long transfer the rest of the runner is busy with.

If it cannot be renewed in time, the runner ends its own tree before the lease could be given to somebody else, by a clock
nobody can set back. Whatever it then still had in hand is fenced off by the attempt number.
"""

import os
import threading
import time
from collections.abc import Callable

from modelyard.domain.jobs.lifecycle import StaleAttempt
from modelyard.domain.jobs.ownership import renew
from modelyard.kit.database import Database
from modelyard.kit.logs import get_logger

RENEWALS_PER_LEASE = 4
LONGEST_INTERVAL_SECONDS = 1.0
"""Also how long a cancel takes to be noticed."""
DEADLINE_SHARE = 0.9
"""The tree is ended after this share of the lease without a renewal."""
log = get_logger(__name__)


class Lease:
    """Keeps one attempt's lease until the process ends.

    One thread renews; another, which never touches the database, watches the clock: a database that hangs instead of
    refusing must not keep the first from noticing.
    """

    def __init__(self, database: Database, job_id: str, attempt: int, seconds: float, kill_tree: Callable[[], None]) -> None:
        self._database, self._job_id, self._attempt, self._seconds = database, job_id, attempt, seconds
        self._kill_tree = kill_tree
        self._interval = min(seconds / RENEWALS_PER_LEASE, LONGEST_INTERVAL_SECONDS)
        self._released = threading.Event()
        self._renewed_at = time.monotonic()
        self.stop_requested: str | None = None
        """Why the platform wants the attempt to save and leave."""

    def start(self) -> None:
        """Begin to renew, and to watch."""
        for name, action in (("lease", self._renew), ("lease watch", self._watch)):
            threading.Thread(target=self._repeat, args=(action,), name=name, daemon=True).start()

    def release(self) -> None:
        """Stop renewing: the attempt has been reported."""
        self._released.set()

    def _repeat(self, action: Callable[[], None]) -> None:
        while not self._released.is_set():
            action()
            self._released.wait(self._interval)

    def _renew(self) -> None:
        started = time.monotonic()
        try:
            with self._database.write() as session:
                self.stop_requested = renew(session, self._job_id, self._attempt, self._seconds).stop_requested
            self._renewed_at = started
        except StaleAttempt as error:
            self._give_up(str(error))
        except Exception as error:  # whatever it is, the watch decides how long it may last
            log.warning("lease not renewed", job_id=self._job_id, error=f"{type(error).__name__}: {error}")

    def _watch(self) -> None:
        if time.monotonic() - self._renewed_at > self._seconds * DEADLINE_SHARE:
            self._give_up("The lease could not be renewed in time")

    def _give_up(self, why: str) -> None:
        if self._released.is_set():
            return
        log.warning("ending the attempt", job_id=self._job_id, attempt=self._attempt, why=why)
        self._kill_tree()
        os._exit(0)
