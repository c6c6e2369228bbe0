"""Entries of the ledger: one for each attempt that ended."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

from sqlalchemy import CursorResult, update
from sqlmodel import Session, col

from modelyard.domain.jobs.tables import Attempt, Job
from modelyard.domain.scheduling.quotas import month_start
from modelyard.domain.specs import KINDS
from modelyard.domain.usage.accounting import AttemptTimeline, Split, account
from modelyard.domain.usage.periods import day_of
from modelyard.domain.usage.rollbacks import Stretch, find_lost
from modelyard.domain.usage.tables import UsageDay, UsageEntry

SUMMED = ("waiting_seconds", "starting", "useful", "redone", "idle", "failed")
"""Columns that entries and days share."""


def timeline_of(job: Job, attempt: Attempt, now: float, goes_on: bool = False, lost: Sequence[Stretch] = ()) -> AttemptTimeline:
    """The moments of an attempt; `lost`: see `find_lost`.

    A service is useful from when it answered until it ended; it saves nothing.
    """
    finished = attempt.finished_at or now
    first, last, saved = attempt.first_step_at, attempt.last_step_at, attempt.saved_at
    if KINDS[job.kind].is_service:
        first = job.ready_at
        last = saved = finished if first is not None else None
    return AttemptTimeline(
        slots=job.slots * job.nodes,
        started_at=attempt.started_at,
        finished_at=finished,
        first_step_at=first,
        last_step_at=last,
        saved_at=saved,
        outcome=attempt.outcome,
        goes_on=goes_on,
        lost=tuple(lost),
    )


def make_entry(job: Job, attempt: Attempt, now: float, goes_on: bool = False, lost: Sequence[Stretch] = ()) -> UsageEntry:
    """The entry of an attempt; of a running one, as it would be if it ended well now. Pure."""
    timeline = timeline_of(job, attempt, now, goes_on, lost)
    split: Split = account(timeline)
    return UsageEntry(
        attempt_id=attempt.id,
        project_id=job.project_id,
        job_id=job.id,
        attempt=attempt.seq,
        accelerator=attempt.accelerator,
        slots=timeline.slots,
        started_at=attempt.started_at,
        finished_at=timeline.finished_at,
        waiting_seconds=max(attempt.started_at - (attempt.queued_at or attempt.started_at), 0.0),
        **asdict(split),
    )


def enter(session: Session, job: Job, attempt: Attempt, goes_on: bool) -> UsageEntry:
    """Write the entry of an attempt that has just ended, in the transaction that ends it and has charged its project."""
    lost = find_lost(session, [job]).get((job.id, attempt.seq), [])
    entry = make_entry(job, attempt, attempt.finished_at or attempt.started_at, goes_on, lost)
    book(session, entry, job.kind)
    return entry


def book(session: Session, entry: UsageEntry, kind: str) -> None:
    """Add an entry to the ledger, and to its day. The caller has the project's row locked: nobody else adds to its days."""
    day: dict[str, Any] = {"project_id": entry.project_id, "day": day_of(entry.finished_at), "kind": kind}
    day["accelerator"] = entry.accelerator
    added: dict[str, Any] = {
        "attempts": 1,
        "before_month": before_month(entry),
        **{name: getattr(entry, name) for name in SUMMED},
    }
    session.add(entry)
    if not _add_to_day(session, day, added):
        session.add(UsageDay(**day, **added))
    session.flush()


def _add_to_day(session: Session, key: Mapping[str, Any], added: Mapping[str, Any]) -> bool:
    mine = [col(getattr(UsageDay, name)) == value for name, value in key.items()]
    sums = {name: getattr(UsageDay, name) + value for name, value in added.items()}
    statement = update(UsageDay).where(*mine).values(**sums).execution_options(synchronize_session=False)
    return cast(CursorResult[Any], session.execute(statement)).rowcount == 1


def before_month(entry: UsageEntry) -> float:
    """Slot-seconds of an entry before the month began in which it ended. Pure."""
    return entry.slots * max(month_start(entry.finished_at) - entry.started_at, 0.0)
