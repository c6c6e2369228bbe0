"""Asking running jobs to save and leave because others need their slots, or because their worker is drained."""

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import CursorResult, update
from sqlmodel import Session, col, select

from modelyard.domain.jobs.lifecycle import ACTIVE, JobState, Outcome
from modelyard.domain.jobs.ownership import add_event
from modelyard.domain.jobs.tables import Job
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
    """Jobs that still run on drained workers and were not asked to leave."""
    query = (
        select(Job)
        .join(Worker, col(Worker.id) == Job.worker_id)
        .where(col(Worker.drain_requested).is_(True), Job.state == JobState.RUNNING, col(Job.stop_requested).is_(None))
    )
    return session.exec(query).all()


def list_busy(session: Session) -> frozenset[str]:
    """Workers that run a job now."""
    query = select(Job.worker_id).where(col(Job.state).in_(ACTIVE), col(Job.worker_id).is_not(None)).distinct()
    return frozenset(name for name in session.exec(query).all() if name is not None)
