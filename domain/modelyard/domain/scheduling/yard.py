"""The yard as placement sees it: waiting jobs, running jobs, and the slots they share. Plain data, read once per look."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

CHOICES = {"any": ("gpu", "cpu"), "gpu": ("gpu",), "cpu": ("cpu",)}
"""What a job may use, the better one first."""


@dataclass(frozen=True)
class Waiting:
    """A job on one machine that could be claimed now."""

    job_id: str
    queue: str
    slots: int
    accelerator: str = "any"
    priority: int = 50
    order_key: float = 0.0
    """Smallest first."""
    waited_seconds: float = 0.0
    avoid_hosts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Pool:
    """The slots of one accelerator that one worker lends."""

    worker_id: str
    host: str
    accelerator: str
    queues: frozenset[str]
    slots: frozenset[str]
    """Names unique in the whole yard: two workers of one machine may lend the same GPUs."""

    def serves(self, job: Waiting) -> bool:
        """Whether the job could run here if everything were free."""
        return job.queue in self.queues and self.accelerator in CHOICES[job.accelerator] and len(self.slots) >= job.slots


@dataclass(frozen=True)
class Running:
    """An attempt, or a gang's seat, that holds slots."""

    job_id: str
    attempt: int
    slots: frozenset[str]
    priority: int = 50
    may_be_preempted: bool = False
    is_service: bool = False
    """Runs until somebody stops it."""
    is_leaving: bool = False
    """It was asked to save and leave."""
    ends_at: float | None = None
    """Predicted, seconds since the epoch; None: nobody knows."""
    lost: float = 0.0
    """Slot-seconds of work since the last checkpoint; of a gang, those of all its nodes."""
    is_seat: bool = False
    """One worker's part of a gang: who displaces it displaces all of them."""


@dataclass(frozen=True)
class Reserved:
    """Slots of a pool kept for a job."""

    job_id: str
    worker_id: str
    accelerator: str
    slots: int
    is_fixed: bool = False
    """Made by another rule, for a gang; only that rule moves it."""


@dataclass(frozen=True)
class Yard:
    """All of it at one moment."""

    now: float = 0.0
    pools: Sequence[Pool] = ()
    running: Sequence[Running] = ()
    reserved: Sequence[Reserved] = ()

    @cached_property
    def _pool_of(self) -> dict[tuple[str, str], Pool]:
        return {(pool.worker_id, pool.accelerator): pool for pool in self.pools}

    @cached_property
    def _holder_of(self) -> dict[str, Running]:
        return {slot: each for each in self.running for slot in each.slots}

    def find_pool(self, reserved: Reserved) -> Pool | None:
        """The pool a reservation is for; None if its worker is gone or takes no jobs."""
        return self._pool_of.get((reserved.worker_id, reserved.accelerator))

    def count_free(self, pool: Pool) -> int:
        """Slots nobody holds."""
        return sum(slot not in self._holder_of for slot in pool.slots)

    def list_holding(self, pool: Pool) -> list[tuple[Running, int]]:
        """Who holds slots of a pool, and how many."""
        holders = (self._holder_of[slot] for slot in sorted(pool.slots) if slot in self._holder_of)
        return list(Counter(holders).items())

    def count_kept(self, pool: Pool, reserved: Sequence[Reserved], job_id: str) -> int:
        """Slots of a pool kept for other jobs."""
        others = [(self.find_pool(each), each.slots) for each in reserved if each.job_id != job_id]
        return sum(slots for kept, slots in others if kept is not None and not kept.slots.isdisjoint(pool.slots))

    def fits_at(self, pool: Pool, slots: int) -> float:
        """When so many slots will be free, by what is predicted; infinity where nobody knows."""
        missing, at = slots - self.count_free(pool), self.now
        for ends_at, count in sorted((end_of(each), count) for each, count in self.list_holding(pool)):
            if missing <= 0:
                break
            missing, at = missing - count, max(at, ends_at)
        return at if missing <= 0 else inf


def end_of(running: Running) -> float:
    """When a job is predicted to end; infinity where nobody knows."""
    return inf if running.ends_at is None or running.is_service else running.ends_at
