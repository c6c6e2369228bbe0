"""What projects may still start, by their quotas and the numbers of their jobs: read once per project and transaction."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sqlalchemy import bindparam, func
from sqlmodel import Session, col, select

from modelyard.domain.jobs.admission import ADMITTED, Verdict
from modelyard.domain.jobs.lifecycle import ACTIVE, HeldReason, JobState
from modelyard.domain.jobs.tables import OWNED, Job
from modelyard.domain.jobs.tallies import Total, total_by_state
from modelyard.domain.projects.tables import Project
from modelyard.domain.scheduling.quotas import Quotas, Use, check_length, has_room, month_start, sum_hours, why_held
from modelyard.domain.usage.periods import day_of
from modelyard.domain.usage.sums import total_of
from modelyard.domain.usage.tables import UsageDay
from modelyard.kit.database import read_clock

HOUR_SECONDS = 3600.0
NOTHING = Total(0, 0)


@dataclass
class _Known:
    name: str
    quotas: Quotas
    use: Use
    is_limited: bool


class Allowances:
    """Answers for one transaction; what it lets in counts at its next answer. Projects without quotas cost one look."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[str, _Known] = {}

    def prepare(self, project_ids: Collection[str]) -> None:
        """Read the projects jobs are about to be made for; those that limit how many may wait stay locked until the end of the
        transaction, so that two requests do not take the last place. In one order, so that none waits for the other in turn."""
        for project_id in sorted(project_ids):
            self._get(project_id, lock=True)

    def remember(self) -> dict[str, Use]:
        """What was counted so far, for `go_back`."""
        return {project_id: known.use for project_id, known in self._known.items()}

    def go_back(self, counted: dict[str, Use]) -> None:
        """Count no longer what was counted since: those jobs are not made after all."""
        for project_id, use in counted.items():
            self._known[project_id].use = use

    def count_waiting(self, project_id: str) -> None:
        """Count one more waiting job. Raises `QuotaExceeded` where that is one too many."""
        known = self._get(project_id)
        if not known.is_limited:
            return
        check_length(known.name, known.quotas, known.use)
        known.use = replace(known.use, waiting_jobs=known.use.waiting_jobs + 1)

    def admit(self, project_id: str, slots: int) -> Verdict:
        """Whether a job of so many slots, nodes included, may queue up now; if so, it counts as queued."""
        known = self._get(project_id)
        if not known.is_limited:
            return ADMITTED
        message = why_held(known.name, known.quotas, known.use, slots)
        if message is not None:
            return Verdict(JobState.HELD, str(HeldReason.QUOTA), message)
        known.use = replace(known.use, queued_slots=known.use.queued_slots + slots)
        return ADMITTED

    def _get(self, project_id: str, lock: bool = False) -> _Known:
        if project_id not in self._known:
            name, quotas = read_quotas(self._session, project_id)
            if lock and quotas.max_queued_jobs is not None:
                name, quotas = read_quotas(self._session, project_id, lock=True)
            self._known[project_id] = _Known(name, quotas, read_use(self._session, project_id, quotas), quotas != Quotas())
        return self._known[project_id]


def read_quotas(session: Session, project_id: str, lock: bool = False) -> tuple[str, Quotas]:
    """Name and quotas of a project; `lock`: nobody else who locks it goes on before this transaction ends."""
    name, *quotas = session.connection().execute(_quotas_of(lock), {"project_id": project_id}).one()
    return name, Quotas(*quotas)


@cache  # made once: making a statement takes longer than SQLite takes to answer it
def _quotas_of(lock: bool) -> Any:
    columns: Any = (Project.name, Project.max_gpus, Project.max_queued_jobs, Project.max_gpu_hours_per_month)
    query: Any = select(*columns).where(Project.id == bindparam("project_id"))
    # FOR NO KEY UPDATE: rows that refer to the project can be inserted meanwhile.
    return query.with_for_update(key_share=True) if lock else query


def read_use(session: Session, project_id: str, quotas: Quotas) -> Use:
    """What a project uses now, as far as its quotas ask for it."""
    if quotas == Quotas():
        return Use()
    totals = total_by_state(session, project_id)
    queued, held = totals.get(JobState.QUEUED, NOTHING), totals.get(JobState.HELD, NOTHING)
    hours = 0.0 if quotas.max_gpu_hours_per_month is None else read_hours_this_month(session, project_id)
    active = sum(total.slots for state, total in totals.items() if state in ACTIVE)
    return Use(active, queued.slots, queued.jobs + held.jobs, hours)


def read_hours_this_month(session: Session, project_id: str) -> float:
    """Slot-hours of a project in this calendar month (UTC): what the ledger holds, and what runs now."""
    now = read_clock(session)
    since = month_start(now)
    used = total_of(UsageDay) - col(UsageDay.before_month)
    days = (UsageDay.project_id == project_id, UsageDay.day >= day_of(since))
    ended = session.exec(select(func.sum(used)).where(*days)).one() or 0.0
    running: Any = select(Job.slots, Job.nodes, Job.started_at)
    running = running.where(Job.project_id == project_id, OWNED, col(Job.state).in_(ACTIVE))
    spans = [(slots * nodes, began or now, now) for slots, nodes, began in session.execute(running)]
    return float(ended) / HOUR_SECONDS + sum_hours(spans, since)


def may_start(session: Session, project_id: str, slots: int) -> bool:
    """Whether a job of so many slots, nodes included, may start now. Asked by whoever starts one, in that transaction.

    A project with `max_gpus` stays locked until the transaction ends: the limit holds however many start at once.
    """
    _, quotas = read_quotas(session, project_id)
    if not quotas.limits_starts():
        return True
    if quotas.max_gpus is not None:
        _, quotas = read_quotas(session, project_id, lock=True)
    # Read after the lock was got: a statement sees what was committed before it began.
    return has_room(quotas, read_use(session, project_id, quotas), slots)


class StartLimits:
    """Which waiting jobs their project's quota would hold back at the claim, read once per project. Keeping slots for those
    would only waste them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[str, tuple[Quotas, Use]] = {}

    def holds_back(self, job: Job) -> bool:
        """Whether a job, with the slots of all its nodes, could not start although a worker had room for it."""
        if job.project_id not in self._known:
            self._known[job.project_id] = self._read(job.project_id)
        quotas, use = self._known[job.project_id]
        return not has_room(quotas, use, job.slots * job.nodes)

    def _read(self, project_id: str) -> tuple[Quotas, Use]:
        _, quotas = read_quotas(self._session, project_id)
        return quotas, read_use(self._session, project_id, quotas) if quotas.limits_starts() else Use()
