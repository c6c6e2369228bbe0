"""One node's place in an attempt of a gang, and all that its runner says to the database and asks of it."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TypeVar

from sqlmodel import Session

from modelyard.domain.jobs.lifecycle import StaleAttempt
from modelyard.domain.jobs.repository import Resumable, find_job, find_resumable, list_attempts
from modelyard.domain.jobs.seats import add_logs, ask_to_stop, leave, renew_seat, say_places, seat_of
from modelyard.domain.jobs.tables import Attempt, Job, Seat
from modelyard.kit.database import Database, DatabaseAway
from modelyard.kit.logs import get_logger
from modelyard.workers.runner.outcome import Ending
from modelyard.workers.runner.rank_environment import Group

T = TypeVar("T")
MEETING_SECONDS = 0.25
"""How often it is asked whether node 0 said where to meet."""
log = get_logger(__name__)


class LostCheckpoint(Exception):
    """The checkpoint node 0 chose is not there any more; continuing without it would part this node from the others."""


@dataclass(frozen=True)
class Membership:
    """Which node of which attempt."""

    database: Database
    job_id: str
    attempt: int
    node_rank: int
    stall: threading.Event = field(default_factory=threading.Event, compare=False)
    """Set once node 0 said that the attempt stands still, as the lease's thread learns."""

    @property
    def seat(self) -> Seat:
        """The seat, by its key."""
        return seat_of(self.job_id, self.attempt, self.node_rank)

    def renewal(self, seconds: float) -> Callable[[], str | None]:
        """What renews the lease of the seat. Returns why the platform wants the attempt to save and leave, if it does."""

        def renew_once() -> str | None:
            with self.database.write() as session:
                renewal = renew_seat(session, self.job_id, self.attempt, self.node_rank, seconds)
            if renewal.is_stalled:
                self.stall.set()
            return renewal.stop_requested

        return renew_once

    def find_job(self) -> Job:
        """The job. Raises `StaleAttempt` if another attempt owns it."""
        with self.database.read() as session:
            job = find_job(session, self.job_id)
        if job is None or job.attempt != self.attempt:
            raise StaleAttempt(self.job_id, self.attempt)
        return job

    def wait_for_meeting(self, nodes: int) -> tuple[Group, Resumable | None]:
        """Return once node 0 said where the ranks meet; with the checkpoint all continue from. The lease ends the wait.

        Raises `LostCheckpoint`.
        """
        while (attempt := self._insist(self.database.read, self._read_attempt)).rendezvous is None:
            time.sleep(MEETING_SECONDS)
        checkpoint = None
        if attempt.resumed_from is not None:
            checkpoint = self._insist(self.database.read, lambda session: find_resumable(session, str(attempt.resumed_from)))
            if checkpoint is None:
                raise LostCheckpoint(f"checkpoint {attempt.resumed_from} was deleted")
        address, _, port = attempt.rendezvous.rpartition(":")
        return Group(nodes, self.node_rank, address, int(port)), checkpoint

    def add_logs(self, chunks: Sequence[tuple[int, str]]) -> None:
        """Write log lines, (rank, text). Raises `StaleAttempt`, or `DatabaseAway` at once."""
        with self.database.write() as session:
            add_logs(session, self.seat, chunks, time.time())

    def ask_all_to_leave(self) -> None:
        """Ask all nodes to save and leave because this one must. Raises `DatabaseAway` at once."""
        with self.database.write() as session:
            ask_to_stop(session, self.job_id, self.attempt, "drained")

    def say_places(self, places: Mapping[int, str | None]) -> None:
        """Say where this node's ranks stand, once their stacks are in the log. Raises `DatabaseAway` at once."""
        with self.database.write() as session:
            say_places(session, self.seat, places)

    def leave(self, ending: Ending | None) -> None:
        """Say that no process of this node is left. `ending`: only if it says something about the attempt."""
        values = (ending.outcome, ending.message, ending.exit_code, ending.failing_rank) if ending else (None, None, 0)
        self._insist(self.database.write, lambda session: leave(session, self.seat, *values))

    def _read_attempt(self, session: Session) -> Attempt:
        return next(each for each in list_attempts(session, self.job_id) if each.seq == self.attempt)

    def _insist(self, transaction: Callable[[], AbstractContextManager[Session]], action: Callable[[Session], T]) -> T:
        """Do something now or as soon as the database is back; the lease's deadline ends the wait if it must."""
        while True:
            try:
                with transaction() as session:
                    return action(session)
            except DatabaseAway as error:
                log.warning("waiting for the database", job_id=self.job_id, error=type(error).__name__)
                time.sleep(MEETING_SECONDS)
