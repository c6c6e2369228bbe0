"""Everything an explanation rests on, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from modelyard.domain.jobs.prediction import Ahead, Occupied, Past
from modelyard.domain.jobs.tables import Attempt, Job


@dataclass(frozen=True)
class Server:
    """An online worker that serves the job's queue."""

    worker_id: str
    slots: int = 1
    """Slots it lends to this queue."""
    takes_none_because: str | None = None
    """Why it takes no job now: it is drained, its host is excluded, …"""

    @property
    def host(self) -> str:
        """The machine: what stands behind the `@`."""
        return self.worker_id.partition("@")[2]


@dataclass(frozen=True)
class Kept:
    """Slots of a worker that are kept free for one job."""

    worker_id: str
    slots: int
    job: Job


@dataclass(frozen=True)
class Situation:
    """A job and what is around it."""

    job: Job
    attempts: Sequence[Attempt] = ()
    ahead: Sequence[Job] = ()
    """The first few waiting jobs of the same queue that go first."""
    line: Sequence[Ahead] = ()
    """All of them, as far as they were counted."""
    line_is_longer: bool = False
    """Whether there are more than were counted."""
    holders: Sequence[Job] = ()
    """Jobs that hold slots of the workers that serve the queue, whatever their stage."""
    occupied: Sequence[Occupied] = ()
    servers: Sequence[Server] = ()
    kept: Sequence[Kept] = ()
    """Reservations on these workers, this job's own among them."""
    past: Mapping[str, Past] = field(default_factory=dict)
    """How long jobs of each kind took."""
    log_lines: Sequence[str] = ()
    nodes_with_room: int = 0
    """Of a gang: how many workers have room for one of its nodes now."""
    lingering: Sequence[str] = ()
    """Of a gang: workers that may still run a part of its last attempt."""
    phase: str | None = None
    """What a running attempt does: `load`, `step`, `save`, …"""
    held_for: str | None = None
    """Of a job held for a quota: what it waits for now; its row says what it was when it was held."""
    now: float = 0.0
