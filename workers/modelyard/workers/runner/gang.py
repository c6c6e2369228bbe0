"""The other nodes of a gang, seen by the runner of node 0: are they there, did one fail, and which failure came first."""

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sqlmodel import Session

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.seats import GRACE_SHARE, SeatState, list_seats, say_stalled, set_rendezvous
from modelyard.domain.jobs.tables import Job, Seat
from modelyard.kit.database import Database, DatabaseAway, read_clock
from modelyard.kit.logs import get_logger
from modelyard.workers.runner.keeping import STORE_PATIENCE_SECONDS
from modelyard.workers.runner.lease import Lease
from modelyard.workers.runner.outcome import BY_STOP_REASON, Ending
from modelyard.workers.runner.rank_environment import Group
from modelyard.workers.runner.ranks import free_port

LOOK_SECONDS = 1.0
FIRST_CAUSE_SECONDS = 5.0
"""After a failure here, the nodes have so long to say that theirs came first: a rank that dies takes its peers along."""
QUIET_SECONDS = 3.0
"""A node renews every second: one that missed three times when its peers fail is likely why."""
PLACES_SECONDS = 20.0
"""The other nodes learn within a second that the run stands still; their ranks have ten for their stacks."""
log = get_logger(__name__)


@dataclass
class Gang:
    """What node 0 knows of the others; while the database is away, what was read last."""

    database: Database
    job: Job
    lease_seconds: float
    seats: Sequence[Seat] = ()
    is_over: bool = False
    """Whether the others have left, or nobody waits for them any more."""
    _now: float = 0.0
    _looked_at: float = 0.0

    def gather(self, advertise_host: str, lease: Lease) -> Group | Ending:
        """Wait until every node has begun its part, and say where all ranks meet; or how the attempt ended before that.

        Raises `StaleAttempt`: the scheduler ends an attempt whose nodes take too long.
        """
        while not self.seats or any(seat.state == SeatState.RESERVED for seat in self.seats):
            if self.has_failure():
                return self.judge(None)
            if lease.stop_requested is not None:
                outcome = BY_STOP_REASON.get(lease.stop_requested, Outcome.CANCELLED)
                return Ending(outcome, f"Asked to stop ({lease.stop_requested}) before it began")
            time.sleep(LOOK_SECONDS / 4)
            self._look()
        group = Group(self.job.nodes, 0, _address_for(self.seats, advertise_host), free_port(""))
        self._insist(lambda session: set_rendezvous(session, self.job.id, self.job.attempt, f"{group.address}:{group.port}"))
        return group

    def has_failure(self) -> bool:
        """Whether a node left badly or was not heard of, so that the others wait for it in vain."""
        if time.monotonic() - self._looked_at > LOOK_SECONDS:
            self._look()
        return any(seat.outcome is not None or self._is_lost(seat) for seat in self.seats[1:])

    def say_stalled(self) -> None:
        """Ask the other nodes where their ranks are. Without the database nobody is asked, and this node's own word must do."""
        try:
            with self.database.write() as session:
                say_stalled(session, self.job.id, self.job.attempt)
        except DatabaseAway as error:
            log.warning("the other nodes were not asked", job_id=self.job.id, error=type(error).__name__)

    def wait_for_places(self) -> dict[int, str | None]:
        """Wait until the ranks of the other nodes have their stacks in the log; returns where those are that were said."""
        self._wait(PLACES_SECONDS, lambda: all(seat.places is not None or not self._is_there(seat) for seat in self.seats[1:]))
        return {int(rank): place for seat in self.seats[1:] for rank, place in (seat.places or {}).items()}

    def _is_there(self, seat: Seat) -> bool:
        return seat.state == SeatState.RUNNING and not self._is_lost(seat)

    def settle(self, has_failed: bool) -> None:
        """Wait until the other nodes have left too; after a failure only for their word on what came first."""
        if has_failed:
            self._wait(FIRST_CAUSE_SECONDS, lambda: self._have_left() or self._has_cause())
        else:
            self._wait(STORE_PATIENCE_SECONDS, lambda: self._have_left() or self.has_failure())
        self.is_over = True

    def judge(self, own: Ending | None) -> Ending:
        """Name the ending of the whole attempt. `own`: None if this node was ended because of another."""
        return judge(own, self._others())

    def _is_lost(self, seat: Seat) -> bool:
        """Whether its lease has been over for so long that the next attempt may start: no process of it can live."""
        until = seat.lease_expires_at
        return seat.state == SeatState.RUNNING and until is not None and until + self.lease_seconds * GRACE_SHARE < self._now

    def _have_left(self) -> bool:
        return all(seat.state == SeatState.LEFT for seat in self.seats[1:])

    def _has_cause(self) -> bool:
        return any(each is not None and _weight(each) == 0 for each in self._others())

    def _others(self) -> list[Ending | None]:
        first_ranks = [seat.node_rank * self.job.slots for seat in self.seats[1:]]
        endings = [_ending_of(seat, self._now, self.lease_seconds) for seat in self.seats[1:]]
        # Of a node that went away without a word its first rank stands for all: it says which machine failed.
        return [
            replace(each, failing_rank=first) if each and each.failing_rank is None else each
            for each, first in zip(endings, first_ranks, strict=True)
        ]

    def _wait(self, seconds: float, is_enough: Callable[[], bool]) -> None:
        deadline = time.monotonic() + seconds
        self._look()
        while not is_enough() and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS / 4)
            self._look()

    def _insist(self, action: Callable[[Session], None]) -> None:
        """Write now or as soon as the database is back; the lease's deadline ends the wait if it must."""
        while True:
            try:
                with self.database.write() as session:
                    return action(session)
            except DatabaseAway as error:
                log.warning("waiting for the database", job_id=self.job.id, error=type(error).__name__)
                time.sleep(LOOK_SECONDS)

    def _look(self) -> None:
        self._looked_at = time.monotonic()
        try:
            with self.database.read() as session:
                self.seats = list_seats(session, self.job.id, self.job.attempt)
                self._now = read_clock(session)
        except DatabaseAway as error:
            log.warning("cannot look at the other nodes", job_id=self.job.id, error=type(error).__name__)


def judge(own: Ending | None, others: Sequence[Ending | None]) -> Ending:
    """Name the ending of an attempt over several nodes: the one that looks most like a cause, this node's if equal. Pure."""
    if own is not None and own.outcome in set(BY_STOP_REASON.values()):
        return own  # all were asked to leave: how each did is no failure of the job
    bad = [each for each in (own, *others) if each is not None and each.outcome is not Outcome.SUCCEEDED]
    if bad:
        return min(bad, key=_weight)
    return own or Ending(Outcome.RUNNER_LOST, "The nodes of the job left without saying why")


def _address_for(seats: Sequence[Seat], advertise_host: str) -> str:
    """Where the other nodes reach this one: as it was told to say, but nobody elsewhere reaches a loopback address."""
    hosts = {seat.worker_id.partition("@")[2] for seat in seats}
    is_loopback = advertise_host == "localhost" or advertise_host.startswith("127.")
    return socket.gethostname() if is_loopback and len(hosts) > 1 else advertise_host


def _weight(ending: Ending) -> int:
    """0: the recipe's own failure. 1: processes or machines that went away. 2: what their peers then see."""
    return {Outcome.RUNNER_LOST: 1, Outcome.NODE_LOST: 1, Outcome.NCCL: 2}.get(ending.outcome, 0)


def _ending_of(seat: Seat, now: float, lease_seconds: float) -> Ending | None:
    where = f"Node {seat.node_rank} on {seat.worker_id}"
    if seat.outcome is not None:
        ending = Ending(Outcome(seat.outcome), f"{where}: {seat.message or seat.outcome}", seat.exit_code)
        return replace(ending, failing_rank=seat.failing_rank)
    if seat.state == SeatState.RUNNING and seat.lease_expires_at is not None:
        quiet = now - (seat.lease_expires_at - lease_seconds)
        return Ending(Outcome.NODE_LOST, f"{where} was not heard of for {quiet:.0f} s") if quiet > QUIET_SECONDS else None
    return None


def gang_of(database: Database, job: Job, lease_seconds: float) -> Gang | None:
    """The other nodes of a job, if it has any."""
    return Gang(database, job, lease_seconds) if job.nodes > 1 else None
