"""Entries of the ledger: one for each attempt that ended."""

from dataclasses import asdict

from sqlmodel import Session

from modelyard.domain.jobs.tables import Attempt, Job
from modelyard.domain.specs import KINDS
from modelyard.domain.usage.accounting import AttemptTimeline, Split, account
from modelyard.domain.usage.tables import UsageEntry


def timeline_of(job: Job, attempt: Attempt, now: float, goes_on: bool = False) -> AttemptTimeline:
    """The moments of an attempt. A service is useful from when it answered until it ended; it saves nothing."""
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
    )


def make_entry(job: Job, attempt: Attempt, now: float, goes_on: bool = False) -> UsageEntry:
    """The entry of an attempt; of a running one, as it would be if it ended well now. Pure."""
    timeline = timeline_of(job, attempt, now, goes_on)
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
    """Write the entry of an attempt that has just ended, in the transaction that ends it."""
    entry = make_entry(job, attempt, attempt.finished_at or attempt.started_at, goes_on)
    session.add(entry)
    return entry
