"""Quotas of a project: slots in use, jobs that wait, slot-hours in a calendar month. Pure decisions over plain data."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from modelyard.domain.errors import DomainError

HOUR_SECONDS = 3600.0


class QuotaExceeded(DomainError):
    """The project has as many jobs waiting as it may have."""

    status = 429
    code = "quota_exceeded"


@dataclass(frozen=True)
class Quotas:
    """What a project may use; None: as much as there is."""

    max_gpus: int | None = None
    max_queued_jobs: int | None = None
    max_gpu_hours_per_month: float | None = None

    def limits_starts(self) -> bool:
        """Whether a job may have to wait although a worker has room for it."""
        return self.max_gpus is not None or self.max_gpu_hours_per_month is not None


@dataclass(frozen=True)
class Use:
    """What a project uses at this moment."""

    active_slots: int = 0
    """Slots its running jobs hold."""
    queued_slots: int = 0
    """Slots its queued jobs ask for."""
    waiting_jobs: int = 0
    """Jobs that are queued or held."""
    gpu_hours_this_month: float = 0.0


def check_length(project: str, quotas: Quotas, use: Use) -> None:
    """Refuse one more waiting job where there are as many as allowed. Pure. Raises `QuotaExceeded`."""
    if quotas.max_queued_jobs is not None and use.waiting_jobs >= quotas.max_queued_jobs:
        raise QuotaExceeded(
            f"Project {project} has {use.waiting_jobs} jobs waiting (queued or held), and max_queued_jobs allows "
            f"{quotas.max_queued_jobs}: wait until some have started, cancel some, or ask an admin to raise the quota "
            f"(PATCH /v1/projects/{project})",
            field="max_queued_jobs",
            value=quotas.max_queued_jobs,
        )


def why_held(project: str, quotas: Quotas, use: Use, slots: int) -> str | None:
    """Why a job of so many slots may not queue up now, with the figures; None if it may. Pure."""
    fits = quotas.max_gpus is None or use.active_slots + use.queued_slots + slots <= quotas.max_gpus
    return None if fits and not is_spent(quotas, use) else say_held(project, quotas, use, slots)


def is_spent(quotas: Quotas, use: Use) -> bool:
    """Whether the month's budget is used up. Pure."""
    budget = quotas.max_gpu_hours_per_month
    return budget is not None and use.gpu_hours_this_month >= budget


def say_held(project: str, quotas: Quotas, use: Use, slots: int) -> str:
    """Say which quota a job waits for, with the figures. Pure."""
    budget, most = quotas.max_gpu_hours_per_month, quotas.max_gpus
    if is_spent(quotas, use):
        return (
            f"Project {project} has used {use.gpu_hours_this_month:.2f} of its {budget:g} slot-hours (max_gpu_hours_per_month) "
            "this month, UTC; the next month begins anew"
        )
    if most is not None and slots > most:
        return f"Needs {slots} slots at once, and max_gpus allows project {project} no more than {most}"
    return (
        f"Needs {slots} of the {most} slots project {project} may use at once (max_gpus): "
        f"{use.active_slots} are in use, {use.queued_slots} are for jobs queued before it"
    )


def has_room(quotas: Quotas, use: Use, slots: int) -> bool:
    """Whether a job of so many slots may start beside what runs, and by the hours used this month. Pure."""
    fits = quotas.max_gpus is None or use.active_slots + slots <= quotas.max_gpus
    return fits and not is_spent(quotas, use)


@dataclass(frozen=True)
class Waiting:
    """A job that waits: queued, or held for its project's quota."""

    job_id: str
    queue: str
    slots: int
    order_key: float
    is_held: bool
    is_served: bool = True
    """Whether some online worker serves its queue."""


@dataclass(frozen=True)
class Moves:
    """Jobs to put into their queue, and jobs to take out of it; each best first."""

    release: list[str] = field(default_factory=list)
    hold: list[str] = field(default_factory=list)


def plan_moves(quotas: Quotas, use: Use, waiting: Iterable[Waiting], most: int) -> Moves:
    """Which jobs change places so that the best ones are queued, as many as may start. At most `most` moves. Pure.

    In order, and none passes a wider one that waits for room, else that would wait for ever. Jobs whose queue nobody serves
    take no room from others: they queue up as if their queue were alone, so that one can see that a worker is missing.
    """
    spent = is_spent(quotas, use)
    most_slots = float("inf") if quotas.max_gpus is None else quotas.max_gpus
    rooms: defaultdict[str | None, float] = defaultdict(lambda: 0.0 if spent else most_slots - use.active_slots)
    moves = Moves()
    for job in sorted(waiting, key=lambda job: (job.order_key, job.job_id)):
        room = None if job.is_served else job.queue
        fits = job.slots <= rooms[room] and not spent
        if fits:
            rooms[room] -= job.slots
        elif job.slots <= most_slots:
            rooms[room] = 0.0
        if fits == job.is_held:
            (moves.release if fits else moves.hold).append(job.job_id)
    return Moves(moves.release[:most], moves.hold[: max(most - len(moves.release), 0)])


def month_start(now: float) -> float:
    """When the calendar month (UTC) of a moment began, in seconds since the epoch. Pure."""
    moment = datetime.fromtimestamp(now, UTC)
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()


def sum_hours(spans: Sequence[tuple[int, float, float]], since: float) -> float:
    """Slot-hours of (slots, started at, ended at) after a moment. Pure."""
    return sum(slots * max(ended - max(started, since), 0.0) for slots, started, ended in spans) / HOUR_SECONDS
