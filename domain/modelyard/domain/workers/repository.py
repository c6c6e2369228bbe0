"""Every query about workers and leadership."""

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import CursorResult, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from modelyard.domain.workers.tables import Leadership, Worker
from modelyard.kit.database import database_now, read_clock

SILENT_SECONDS = 30.0
"""A worker that sent no heartbeat for so long counts as offline."""


def report_worker(session: Session, worker: Worker) -> None:
    """Insert or replace a worker's row."""
    session.merge(worker)


def list_workers(session: Session) -> Sequence[Worker]:
    """All workers ever seen, by name."""
    return session.exec(select(Worker).order_by(col(Worker.id))).all()


def list_online(session: Session) -> Sequence[Worker]:
    """Workers that sent a heartbeat lately and take jobs."""
    fresh = time.time() - SILENT_SECONDS
    return session.exec(select(Worker).where(Worker.state == "online", Worker.heartbeat_at > fresh)).all()


def mark_silent_offline(session: Session) -> int:
    """Mark workers without a heartbeat offline; return how many."""
    silent = (col(Worker.state) != "offline", col(Worker.heartbeat_at) < time.time() - SILENT_SECONDS)
    result: CursorResult[Any] = session.execute(update(Worker).where(*silent).values(state="offline"))  # type: ignore[assignment]
    return result.rowcount


def take_lead(session: Session, role: str, holder: str, seconds: float) -> bool:
    """Become or stay the holder of a role for so long; False while somebody else's lease lasts."""
    mine_or_free = (
        col(Leadership.role) == role,
        (col(Leadership.holder) == holder) | (col(Leadership.expires_at) < database_now()),
    )
    values = {"holder": holder, "expires_at": database_now() + seconds}
    result: CursorResult[Any] = session.execute(update(Leadership).where(*mine_or_free).values(**values))  # type: ignore[assignment]
    if result.rowcount:
        return True
    if session.get(Leadership, role) is not None:
        return False
    now = read_clock(session)
    try:
        with session.begin_nested():
            session.add(Leadership(role=role, holder=holder, expires_at=now + seconds))
    except IntegrityError:
        return False
    return True


def find_leader(session: Session, role: str) -> str | None:
    """Who holds a role at this moment."""
    query = select(Leadership.holder).where(Leadership.role == role, col(Leadership.expires_at) > database_now())
    return session.exec(query).first()


def leave_lead(session: Session, role: str, holder: str) -> None:
    """Give a role up, so that the next holder need not wait for the lease to end."""
    mine = (col(Leadership.role) == role, col(Leadership.holder) == holder)
    session.execute(update(Leadership).where(*mine).values(expires_at=0.0))
