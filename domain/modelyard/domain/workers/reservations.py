"""Every query about reservations: slots of a worker kept free for one job."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import bindparam, delete, update
from sqlmodel import Session, col, select

from modelyard.domain.jobs.allowances import may_start
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.tables import Job
from modelyard.domain.workers.tables import Reservation
from modelyard.kit.database import database_now, read_clock

RESERVATION_SECONDS = 30.0
"""A reservation nobody renewed for so long is void: a scheduler that is gone keeps nothing reserved."""


def list_reservations(session: Session) -> Sequence[Reservation]:
    """Reservations that hold now."""
    query = select(Reservation).where(Reservation.expires_at > database_now())
    return session.exec(query.order_by(col(Reservation.worker_id), col(Reservation.job_id))).all()


def reserve(session: Session, worker_id: str, job_id: str, accelerator: str, slots: int) -> None:
    """Keep slots of a worker for a job, or renew that; a job has one reservation, so others of it end."""
    elsewhere = (col(Reservation.job_id) == job_id, col(Reservation.worker_id) != worker_id)
    session.execute(delete(Reservation).where(*elsewhere))
    expires = read_clock(session) + RESERVATION_SECONDS
    row = Reservation(worker_id=worker_id, job_id=job_id, slots=slots, accelerator=accelerator, expires_at=expires)
    session.merge(row)


def renew_reservation(session: Session, worker_id: str, job_id: str) -> None:
    """Go on keeping slots, if they are kept; written only once half the time is over."""
    mine = (col(Reservation.worker_id) == worker_id, col(Reservation.job_id) == job_id)
    aging = col(Reservation.expires_at) < database_now() + RESERVATION_SECONDS / 2
    session.execute(update(Reservation).where(*mine, aging).values(expires_at=database_now() + RESERVATION_SECONDS))


def find_reserved(session: Session, queue: str, host: str) -> Job | None:
    """The best waiting job of a queue that slots of this machine are kept for, locked: it goes before any other there.

    Else a victim, back in its queue before the job that displaced it could start, might take its slots again.
    """
    # First the reservations alone, for there are none most of the time, and every claim asks.
    kept = session.execute(_find_kept(), {"here": "%@" + re.sub("([%_/])", r"/\1", host)}).scalars().all()
    return _lock_best(session, queue, kept) if kept else None


def _lock_best(session: Session, queue: str, kept: Sequence[str]) -> Job | None:
    claimable = (col(Job.id).in_(kept), Job.queue == queue, Job.state == JobState.QUEUED, Job.not_before <= database_now())
    query = select(Job.id, Job.project_id, Job.slots).where(*claimable).order_by(col(Job.order_key), col(Job.id))
    for job_id, project_id, slots in session.exec(query).all():
        locked = select(Job).where(Job.id == job_id, *claimable).with_for_update(skip_locked=True)
        # Going back to the savepoint gives the project's lock up: nobody waits for a project while holding another.
        with session.begin_nested() as savepoint:
            job: Job | None = session.exec(locked).first() if may_start(session, project_id, slots) else None
            if job is not None:
                return job
            savepoint.rollback()
    return None


@cache
def _find_kept() -> Any:
    here = col(Reservation.worker_id).like(bindparam("here"), escape="/")
    return select(Reservation.job_id).where(here, Reservation.expires_at > database_now())


def release(session: Session, worker_id: str, job_id: str) -> None:
    """Keep slots of a worker no longer for a job."""
    mine = (col(Reservation.worker_id) == worker_id, col(Reservation.job_id) == job_id)
    session.execute(delete(Reservation).where(*mine))


def forget_expired(session: Session) -> None:
    """Remove what expired."""
    session.execute(delete(Reservation).where(col(Reservation.expires_at) <= database_now()))
