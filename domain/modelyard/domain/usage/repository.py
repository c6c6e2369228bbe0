"""Reports of the ledger: what ended, from the database's sums; what runs, as if it ended well now."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from sqlmodel import Session, col, select

from modelyard.domain.jobs.lifecycle import ACTIVE
from modelyard.domain.jobs.tables import OWNED, Attempt, Job
from modelyard.domain.projects.tables import Project
from modelyard.domain.usage.accounting import Split
from modelyard.domain.usage.largest import find_largest
from modelyard.domain.usage.ledger import make_entry
from modelyard.domain.usage.periods import Period, split_period
from modelyard.domain.usage.rollbacks import find_lost
from modelyard.domain.usage.sums import BY_DAY, SPLIT_NAMES, Grouping, Scope, UsageRow, sum_days, sum_entries
from modelyard.domain.usage.tables import UsageEntry
from modelyard.kit.database import read_clock


def report(
    session: Session,
    grouping: Grouping,
    project_id: str | None = None,
    job_id: str | None = None,
    period: Period | None = None,
    limit: int | None = None,
) -> list[UsageRow]:
    """What was used, largest first. `project_id` None: all projects; `limit`: no more than the largest so many."""
    period, scope = period or Period(), Scope(project_id, None if job_id is None else [job_id])
    running = list(_running(session, grouping, scope, period))
    rows: dict[tuple[str, str], UsageRow] = {}
    for row in (*_ended(session, grouping, scope, period, running, limit), *running):
        known = rows.setdefault((row.key, row.accelerator), UsageRow(row.key, row.accelerator))
        known.add(row)
    return sorted(rows.values(), key=lambda row: (-row.split.total, row.key))[:limit]


def _ended(
    session: Session, grouping: Grouping, scope: Scope, period: Period, running: Sequence[UsageRow], limit: int | None
) -> Iterable[UsageRow]:
    if grouping in BY_DAY and scope.job_ids is None:
        days, edges = split_period(period)
        whole = sum_days(session, grouping, scope, days) if days else ()
        return [*whole, *(row for edge in edges for row in sum_entries(session, grouping, scope, edge))]
    if limit is None or scope.job_ids is not None or grouping not in {Grouping.JOB, Grouping.ATTEMPT}:
        return sum_entries(session, grouping, scope, period, None if running else limit)
    found = list(find_largest(session, grouping, scope, period, limit))
    if grouping is Grouping.ATTEMPT:
        return found
    return [*found, *_others(session, scope, period, running, {(row.key, row.accelerator) for row in found})]


def _others(
    session: Session, scope: Scope, period: Period, running: Sequence[UsageRow], found: set[tuple[str, str]]
) -> Iterable[UsageRow]:
    """What ended of running jobs that are not among the largest without what runs of them."""
    job_ids = [row.key for row in running if (row.key, row.accelerator) not in found]
    if not job_ids:
        return []
    ended = sum_entries(session, Grouping.JOB, Scope(scope.project_id, job_ids), period)
    return [row for row in ended if (row.key, row.accelerator) not in found]


def list_entries(session: Session, job: Job) -> Sequence[UsageEntry]:
    """The entries of a job's attempts, oldest first; a running one as it would be now."""
    ended = session.exec(select(UsageEntry).where(UsageEntry.job_id == job.id).order_by(col(UsageEntry.attempt))).all()
    running = session.exec(select(Attempt).where(Attempt.job_id == job.id, col(Attempt.outcome).is_(None))).all()
    now, lost = read_clock(session), find_lost(session, [job])
    return [*ended, *(make_entry(job, attempt, now, lost=lost.get((job.id, attempt.seq), ())) for attempt in running)]


def _running(session: Session, grouping: Grouping, scope: Scope, period: Period) -> Iterable[UsageRow]:
    now = read_clock(session)
    if period.end is not None and period.end < now:
        return
    query = select(Job, Attempt, Project.name).where(
        OWNED,
        col(Job.state).in_(ACTIVE),
        col(Attempt.job_id) == col(Job.id),
        col(Attempt.seq) == col(Job.attempt),
        col(Project.id) == col(Job.project_id),
    )
    found = session.exec(scope.narrow(query, Job)).all()
    lost = find_lost(session, [job for job, *_ in found])
    for job, attempt, project in found:
        entry = make_entry(job, attempt, now, lost=lost.get((job.id, attempt.seq), ()))
        split = Split(*(getattr(entry, name) for name in SPLIT_NAMES))
        yield UsageRow(_key_of(grouping, job, attempt, project, now), attempt.accelerator, 1, entry.waiting_seconds, split, True)


def _key_of(grouping: Grouping, job: Job, attempt: Attempt, project: str, now: float) -> str:
    return {
        Grouping.PROJECT: project,
        Grouping.JOB: job.id,
        Grouping.KIND: job.kind,
        Grouping.MONTH: datetime.fromtimestamp(now, UTC).strftime("%Y-%m"),
        Grouping.ACCELERATOR: attempt.accelerator,
        Grouping.ATTEMPT: f"{job.id}:{attempt.seq}",
    }[grouping]
