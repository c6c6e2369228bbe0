"""Asking running jobs to save and leave because others need their slots, or because their worker is drained."""

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import CursorResult, exists, update
from sqlmodel import Session, col, select

from modelyard.domain.jobs.lifecycle import ACTIVE, JobState, Outcome
from modelyard.domain.jobs.ownership import add_event
from modelyard.domain.jobs.tables import OWNED, Job, Seat
from modelyard.domain.workers.tables import Worker


def ask_to_leave(session: Session, job_id: str, attempt: int, reason: Outcome, because: dict[str, Any]) -> bool:
    """Ask an attempt to save and leave; its job goes back to its queue. False if it left, or was asked, before."""
    where = (
        col(Job.id) == job_id,
        col(Job.attempt) == attempt,
        col(Job.state) == JobState.RUNNING,
        col(Job.stop_requested).is_(None),
    )
    statement = update(Job).where(*where).values(stop_requested=str(reason))
    if cast(CursorResult[Any], session.execute(statement)).rowcount == 0:
        return False
    add_event(session, job_id, attempt, "asked_to_leave", {"reason": str(reason), **because})
    return True


def list_to_hand_over(session: Session) -> Sequence[Job]:
    """Jobs that still run on drained workers, or have a seat there, and were not asked to leave."""
    drained = session.exec(select(Worker.id).where(col(Worker.drain_requested).is_(True))).all()
    if not drained:
        return []
    seated = select(Seat.job_id).where(col(Seat.worker_id).in_(drained), Seat.state != "left", Seat.attempt == Job.attempt)
    here = col(Job.worker_id).in_(drained) | exists(seated.where(Seat.job_id == Job.id))
    query = select(Job).where(OWNED, Job.state == JobState.RUNNING, col(Job.stop_requested).is_(None), here)
    return session.exec(query).all()


def list_busy(session: Session) -> frozenset[str]:
    """Workers that run a job, or a part of one, now."""
    alone = select(Job.worker_id).where(OWNED, col(Job.state).in_(ACTIVE), col(Job.worker_id).is_not(None))
    parts = select(Seat.worker_id).join(Job, (col(Job.id) == Seat.job_id) & (col(Job.attempt) == Seat.attempt))
    seated = parts.where(OWNED, col(Job.state).in_(ACTIVE), Seat.state != "left")
    return frozenset(name for name in [*session.exec(alone).all(), *session.exec(seated).all()] if name is not None)
