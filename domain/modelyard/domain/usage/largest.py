"""The largest groups of the ledger, found without adding up all the others.

Whoever ended once in a period used what that one entry says; so the largest of those are the first of an index by size. Only
jobs that were tried again have to be added up before they can be compared.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import case, func
from sqlmodel import Session, col, select

from modelyard.domain.projects.tables import Project
from modelyard.domain.usage.periods import Period, day_of
from modelyard.domain.usage.sums import Grouping, Scope, UsageRow, sum_entries, total_of, within
from modelyard.domain.usage.tables import FIRST, RETRIED, UsageDay, UsageEntry


def find_largest(session: Session, grouping: Grouping, scope: Scope, period: Period, limit: int) -> Iterable[UsageRow]:
    """What ended within a period, by job or by attempt: among others the `limit` largest groups, each whole."""
    wanted = [scope.project_id] if scope.project_id else session.exec(select(Project.id)).all()
    rows: dict[tuple[str, str], UsageRow] = {}
    for project_id in wanted:
        for row in _find_in_project(session, grouping, Scope(project_id), period, limit):
            rows[row.key, row.accelerator] = row
    return rows.values()


def walks_by_size(ended: int, ever: int, limit: int) -> bool:
    """Whether looking from the largest entry down is less work than adding up those that ended in the period. Pure.

    One of `ever / ended` entries on the way lies in the period.
    """
    return limit * ever < ended**2


def _find_in_project(session: Session, grouping: Grouping, scope: Scope, period: Period, limit: int) -> Iterable[UsageRow]:
    ended, ever = _count(session, scope, period)
    if not walks_by_size(ended, ever, limit):
        return sum_entries(session, grouping, scope, period, limit)
    if grouping is Grouping.ATTEMPT:
        attempts = session.exec(_by_size(select(UsageEntry.attempt_id), scope, period, limit)).all()
        return sum_entries(session, grouping, Scope(scope.project_id, attempt_ids=attempts))
    once = session.exec(_by_size(select(UsageEntry.job_id).where(FIRST), scope, period, limit)).all()
    again = select(UsageEntry.job_id).where(RETRIED, UsageEntry.project_id == scope.project_id, *within(period))
    return [
        *sum_entries(session, grouping, Scope(scope.project_id, once), period),
        *sum_entries(session, grouping, Scope(scope.project_id, again), period, limit),
    ]


def _by_size(query: Any, scope: Scope, period: Period, limit: int) -> Any:
    # Not by the index of endings: the database would sort all that ended in the period.
    query = query.where(UsageEntry.project_id == scope.project_id, *within(period, by_time=False))
    return query.order_by(total_of(UsageEntry).desc(), col(UsageEntry.job_id)).limit(limit)


def _count(session: Session, scope: Scope, period: Period) -> tuple[int, int]:
    """Attempts that ended within the days a period touches, and all that ever did: enough to choose by."""
    day = col(UsageDay.day)
    touched = day >= day_of(period.start)
    if period.end is not None:
        touched &= day <= day_of(period.end)
    attempts = col(UsageDay.attempts)
    query = select(func.sum(case((touched, attempts), else_=0)), func.sum(attempts))
    ended, ever = session.exec(query.where(UsageDay.project_id == scope.project_id)).one()
    return int(ended or 0), int(ever or 0)
