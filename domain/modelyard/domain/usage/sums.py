"""Sums of the ledger: by the day where whole days of many jobs are asked for, else entry by entry."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from sqlalchemy import String, cast, func, literal_column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlmodel import Session, col, select

from modelyard.domain.jobs.tables import Job
from modelyard.domain.projects.tables import Project
from modelyard.domain.usage.accounting import Split
from modelyard.domain.usage.periods import DAY_SECONDS, Days, Period
from modelyard.domain.usage.tables import UsageDay, UsageEntry

SPLIT_NAMES = tuple(each.name for each in fields(Split))
ALL_TIME = Period()


class Grouping(StrEnum):
    """What one row of a report stands for; rows are always apart by accelerator too."""

    PROJECT = "project"
    JOB = "job"
    KIND = "kind"
    MONTH = "month"
    ACCELERATOR = "accelerator"
    ATTEMPT = "attempt"


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


@dataclass(frozen=True)
class Scope:
    """Whose usage: None for everybody's."""

    project_id: str | None = None
    job_ids: Any = None
    """A list, or a query."""
    attempt_ids: Sequence[str] | None = None

    def is_wide(self) -> bool:
        """Whether it is about more than named jobs or attempts, which are found by their names."""
        return self.job_ids is None and self.attempt_ids is None

    def narrow(self, query: Any, table: Any) -> Any:
        """The same query about these only."""
        if self.project_id:
            # As an expression no index is of use for it: named rows are to be found by their names.
            project = col(table.project_id) if self.is_wide() else col(table.project_id).concat("")
            query = query.where(project == self.project_id)
        if self.job_ids is not None:
            query = query.where(col(table.id if table is Job else table.job_id).in_(self.job_ids))
        if self.attempt_ids is not None:
            query = query.where(col(table.attempt_id).in_(self.attempt_ids))
        return query


BY_DAY: dict[Grouping, Any] = {
    Grouping.PROJECT: col(Project.name),
    Grouping.KIND: col(UsageDay.kind),
    Grouping.MONTH: month_of(col(UsageDay.day) * DAY_SECONDS),
    Grouping.ACCELERATOR: col(UsageDay.accelerator),
}
BY_ENTRY: dict[Grouping, Any] = {
    Grouping.PROJECT: col(Project.name),
    Grouping.JOB: col(UsageEntry.job_id),
    Grouping.KIND: col(Job.kind),
    Grouping.MONTH: month_of(col(UsageEntry.finished_at)),
    Grouping.ACCELERATOR: col(UsageEntry.accelerator),
    Grouping.ATTEMPT: col(UsageEntry.job_id).concat(":").concat(cast(col(UsageEntry.attempt), String())),
}


def sum_days(session: Session, grouping: Grouping, scope: Scope, days: Days) -> Iterable[UsageRow]:
    """What ended on whole days: a few rows a day and project, however many jobs there were."""
    query = _select_sums(BY_DAY[grouping], UsageDay, func.sum(UsageDay.attempts)).where(UsageDay.day >= days.first)
    query = query.join(Project, col(Project.id) == col(UsageDay.project_id)) if grouping is Grouping.PROJECT else query
    if days.end is not None:
        query = query.where(UsageDay.day < days.end)
    return _rows(session, scope.narrow(query, UsageDay), UsageDay)


def sum_entries(
    session: Session, grouping: Grouping, scope: Scope, period: Period = ALL_TIME, limit: int | None = None
) -> Iterable[UsageRow]:
    """What ended within a period, entry by entry; `limit`: only the largest groups."""
    query = _select_sums(BY_ENTRY[grouping], UsageEntry, func.count()).where(*within(period, by_time=scope.is_wide()))
    query = query.join(Job, col(Job.id) == col(UsageEntry.job_id)) if grouping is Grouping.KIND else query
    query = query.join(Project, col(Project.id) == col(UsageEntry.project_id)) if grouping is Grouping.PROJECT else query
    if limit is not None:
        query = query.order_by(func.sum(total_of(UsageEntry)).desc(), literal_column("1")).limit(limit)
    return _rows(session, scope.narrow(query, UsageEntry), UsageEntry)


def within(period: Period, *, by_time: bool = True) -> list[Any]:
    """The conditions under which an entry ended within a period; `by_time`: whether an index of endings may be of use."""
    ended = col(UsageEntry.finished_at) if by_time else col(UsageEntry.finished_at) + 0
    return [ended >= period.start] if period.end is None else [ended >= period.start, ended < period.end]


def total_of(table: Any) -> Any:
    """All slot-seconds of a row of the ledger."""
    return sum((col(getattr(table, name)) for name in SPLIT_NAMES[1:]), col(getattr(table, SPLIT_NAMES[0])))


def _select_sums(key: Any, table: Any, attempts: Any) -> Any:
    sums = [func.sum(getattr(table, name)) for name in ("waiting_seconds", *SPLIT_NAMES)]
    return select(key, col(table.accelerator), attempts, *sums)


def _rows(session: Session, query: Any, table: Any) -> list[UsageRow]:
    found = session.execute(query.group_by(literal_column("1"), col(table.accelerator))).all()
    return [UsageRow(key, kind, int(attempts), waiting, Split(*split)) for key, kind, attempts, waiting, *split in found]
