"""Every query about reservations: slots of a worker kept free for one job."""

from collections.abc import Sequence

from sqlalchemy import delete
from sqlmodel import Session, col, select

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


def release(session: Session, worker_id: str, job_id: str) -> None:
    """Keep slots of a worker no longer for a job."""
    mine = (col(Reservation.worker_id) == worker_id, col(Reservation.job_id) == job_id)
    session.execute(delete(Reservation).where(*mine))


def forget_expired(session: Session) -> None:
    """Remove what expired."""
    session.execute(delete(Reservation).where(col(Reservation.expires_at) <= database_now()))
