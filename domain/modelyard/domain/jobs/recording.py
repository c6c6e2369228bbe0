"""What a running attempt reports: metric points, log lines, progress, checkpoints; written in batches by its owner only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, exists, func, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.ownership import add_event, own
from modelyard.domain.jobs.tables import DISCARDED, Attempt, Checkpoint, Job, LogChunk, MetricPoint
from modelyard.kit.identifiers import new_id
from modelyard.kit.rows import insert_rows

QUIET_EVENTS = frozenset({"metric", "progress"})
"""Too frequent for the event list; they have places of their own."""
UNLISTED_EVENTS = QUIET_EVENTS | {"manifest"}
"""What the event list leaves out: the manifest is large, and kept with the attempt."""


@dataclass
class Batch:
    """Everything read since the last write."""

    events: list[dict[str, Any]] = field(default_factory=list)
    """Lines of `events.jsonl`."""
    events_offset: int | None = None
    """Where reading `events.jsonl` ended, in bytes; written with the batch, so that each line counts exactly once."""
    logs: list[tuple[int, str]] = field(default_factory=list)
    """(rank, text)."""

    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.events and not self.logs


def record(session: Session, job_id: str, attempt: int, batch: Batch, now: float) -> None:
    """Write a batch in one transaction. Raises `StaleAttempt` if the attempt no longer owns the job."""
    job = own(session, job_id, attempt, **_newest_progress(batch.events))
    mine = (col(Attempt.job_id) == job_id, col(Attempt.seq) == attempt)
    if batch.events and session.exec(select(Attempt.events_offset).where(*mine)).one() == batch.events_offset:
        return  # written before, but the database went away before it could say so
    _note_steps(session, mine, batch.events)
    for event in batch.events:
        if event["type"] == "manifest":
            session.execute(update(Attempt).where(*mine).values(manifest=event["manifest"]))
    figures = {key: value for event in batch.events if event["type"] == "figures" for key, value in event["values"].items()}
    if figures:
        own(session, job_id, attempt, figures={**job.figures, **figures})
    for event in batch.events:
        if event["type"] not in UNLISTED_EVENTS:
            add_event(session, job_id, attempt, event["type"], _without(event, "type", "at"))
    points = [point for event in batch.events if event["type"] == "metric" for point in _points(job_id, attempt, event)]
    insert_rows(session, MetricPoint, points)
    if batch.logs:
        chunks = [
            {"job_id": job_id, "attempt": attempt, "rank": rank, "text": text.replace("\0", ""), "at": now}
            for rank, text in batch.logs
        ]
        insert_rows(session, LogChunk, chunks)
    if batch.events_offset is not None:
        session.execute(update(Attempt).where(*mine).values(events_offset=batch.events_offset))


def add_checkpoint(
    session: Session,
    job_id: str,
    attempt: int,
    step: int,
    key: str,
    manifest: dict[str, Any],
    metrics: dict[str, Any],
    now: float,
) -> None:
    """Record a stored checkpoint. Raises `StaleAttempt` if the attempt no longer owns the job."""
    own(session, job_id, attempt)
    known = select(Checkpoint.id).where(Checkpoint.job_id == job_id, Checkpoint.attempt == attempt, Checkpoint.step == step)
    if session.exec(known).first() is not None:
        return  # recorded before, but the database went away before it could say so
    session.add(
        Checkpoint(
            id=new_id("ckpt"),
            job_id=job_id,
            attempt=attempt,
            step=step,
            artifact_key=key,
            sha256=manifest["sha256"],
            bytes=manifest["bytes"],
            metrics=metrics,
            created_at=now,
        )
    )
    mine = (col(Attempt.job_id) == job_id, col(Attempt.seq) == attempt)
    session.execute(update(Attempt).where(*mine).values(saved_at=now))
    session.flush()


def list_discarded(session: Session, limit: int = 100) -> Sequence[Job]:
    """Cancelled jobs that were not to keep their checkpoints, still have them, and at which no open job begins."""
    user = aliased(Job)
    is_needed = exists().where(col(user.resume_from_job) == col(Job.id), col(user.finished_at).is_(None))
    return session.exec(select(Job).where(DISCARDED, Job.state == JobState.CANCELLED, ~is_needed).limit(limit)).all()


def forget_checkpoints(session: Session, job_id: str) -> None:
    """Delete the rows of a discarded job's checkpoints; what they name has been removed from the store."""
    session.execute(delete(Checkpoint).where(col(Checkpoint.job_id) == job_id))
    discarded = (col(Job.id) == job_id, col(Job.state) == JobState.CANCELLED)
    session.execute(update(Job).where(*discarded).values(stop_requested=None))


def _note_steps(session: Session, mine: tuple[Any, ...], events: list[dict[str, Any]]) -> None:
    """Keep when the attempt first and last got on: what the ledger splits its time by."""
    times = [event["at"] for event in events if event["type"] in QUIET_EVENTS]
    if times:
        first = func.coalesce(col(Attempt.first_step_at), min(times))
        session.execute(update(Attempt).where(*mine).values(first_step_at=first, last_step_at=max(times)))


def _newest_progress(events: list[dict[str, Any]]) -> dict[str, Any]:
    for event in reversed(events):
        if event["type"] == "progress":
            return {"progress": event["fraction"], "progress_message": event["message"]}
    return {}


def _points(job_id: str, attempt: int, event: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "job_id": job_id,
            "attempt": attempt,
            "name": name,
            "step": event["step"],
            "value": value if isinstance(value, int | float) and math.isfinite(value) else None,
            "at": event["at"],
        }
        for name, value in event["values"].items()
    ]


def _without(event: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in keys}
