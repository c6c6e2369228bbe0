"""Every query about the ledger: entries of ended attempts in the database, running ones as they would end now."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, String, cast, func, literal_column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlmodel import Session, col, select

from modelyard.domain.jobs.lifecycle import ACTIVE
from modelyard.domain.jobs.tables import OWNED, Attempt, Job
from modelyard.domain.projects.tables import Project
from modelyard.domain.usage.accounting import Split
from modelyard.domain.usage.ledger import make_entry
from modelyard.domain.usage.tables import UsageEntry
from modelyard.kit.database import read_clock

SPLIT_NAMES = tuple(each.name for each in fields(Split))


class Grouping(StrEnum):
    """What one row of a report stands for; rows are always apart by accelerator too."""

    PROJECT = "project"
    JOB = "job"
    KIND = "kind"
    MONTH = "month"
    ACCELERATOR = "accelerator"
    ATTEMPT = "attempt"


@dataclass(frozen=True)
class Period:
    """Which attempts count: those that ended within, by the database's clock; and those that run now."""

    start: float = 0.0
    end: float | None = None


@dataclass
class UsageRow:
    """Slot-seconds of one group."""

    key: str
    """Project name, job id, kind, `YYYY-MM`, accelerator, or `job_…:2`."""
    accelerator: str
    attempts: int = 0
    waiting_seconds: float = 0.0
    split: Split = field(default_factory=Split)
    has_running: bool = False
    """Whether part of it is provisional: an attempt that runs counts as if it ended well now."""

    def add(self, other: "UsageRow") -> None:
        """Take another row of the same group in."""
        self.attempts += other.attempts
        self.waiting_seconds += other.waiting_seconds
        self.split = self.split + other.split
        self.has_running = self.has_running or other.has_running


class month_of(FunctionElement[str]):
    """The calendar month (UTC) of seconds since the epoch, as `YYYY-MM`."""

    type = String()
    inherit_cache = True
    name = "month_of"


@compiles(month_of, "sqlite")
def _sqlite_month(element: Any, compiler: Any, **options: Any) -> str:
    return f"strftime('%Y-%m', {compiler.process(element.clauses, **options)}, 'unixepoch')"


@compiles(month_of, "postgresql")
def _postgresql_month(element: Any, compiler: Any, **options: Any) -> str:
    return f"to_char(to_timestamp({compiler.process(element.clauses, **options)}) AT TIME ZONE 'UTC', 'YYYY-MM')"


def report(
    session: Session, grouping: Grouping, project_id: str | None = None, job_id: str | None = None, period: Period | None = None
) -> list[UsageRow]:
    """What was used, largest first. `project_id` None: all projects."""
    period = period or Period()
    rows: dict[tuple[str, str], UsageRow] = {}
    for row in (*_ended(session, grouping, project_id, job_id, period), *_running(session, grouping, project_id, job_id, period)):
        known = rows.setdefault((row.key, row.accelerator), UsageRow(row.key, row.accelerator))
        known.add(row)
    return sorted(rows.values(), key=lambda row: (-row.split.total, row.key))


def list_entries(session: Session, job: Job) -> Sequence[UsageEntry]:
    """The entries of a job's attempts, oldest first; a running one as it would be now."""
    ended = session.exec(select(UsageEntry).where(UsageEntry.job_id == job.id).order_by(col(UsageEntry.attempt))).all()
    running = session.exec(select(Attempt).where(Attempt.job_id == job.id, col(Attempt.outcome).is_(None))).all()
    now = read_clock(session)
    return [*ended, *(make_entry(job, attempt, now) for attempt in running)]


def _ended(
    session: Session, grouping: Grouping, project_id: str | None, job_id: str | None, period: Period
) -> Iterable[UsageRow]:
    key = _key_column(grouping)
    sums = [func.sum(getattr(UsageEntry, name)) for name in ("waiting_seconds", *SPLIT_NAMES)]
    query: Any = select(key, col(UsageEntry.accelerator), func.count(), *sums)
    query = query.join(Job, col(Job.id) == col(UsageEntry.job_id)) if grouping is Grouping.KIND else query
    query = query.join(Project, col(Project.id) == col(UsageEntry.project_id)) if grouping is Grouping.PROJECT else query
    query = query.where(col(UsageEntry.finished_at) >= period.start)
    if period.end is not None:
        query = query.where(col(UsageEntry.finished_at) < period.end)
    if project_id:
        query = query.where(col(UsageEntry.project_id) == project_id)
    if job_id:
        query = query.where(col(UsageEntry.job_id) == job_id)
    for found in session.execute(query.group_by(literal_column("1"), col(UsageEntry.accelerator))).all():
        name, accelerator, attempts, waiting, *split = found
        yield UsageRow(name, accelerator, attempts, waiting, Split(*split))


def _key_column(grouping: Grouping) -> ColumnElement[Any]:
    columns: dict[Grouping, Any] = {
        Grouping.PROJECT: col(Project.name),
        Grouping.JOB: col(UsageEntry.job_id),
        Grouping.KIND: col(Job.kind),
        Grouping.MONTH: month_of(col(UsageEntry.finished_at)),
        Grouping.ACCELERATOR: col(UsageEntry.accelerator),
        Grouping.ATTEMPT: col(UsageEntry.job_id).concat(":").concat(cast(col(UsageEntry.attempt), String())),
    }
    key: ColumnElement[Any] = columns[grouping]
    return key


def _running(
    session: Session, grouping: Grouping, project_id: str | None, job_id: str | None, period: Period
) -> Iterable[UsageRow]:
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
    if project_id:
        query = query.where(Job.project_id == project_id)
    if job_id:
        query = query.where(Job.id == job_id)
    for job, attempt, project in session.exec(query).all():
        entry = make_entry(job, attempt, now)
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
