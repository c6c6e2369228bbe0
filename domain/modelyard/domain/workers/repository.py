"""Every query about workers and leadership."""

from collections.abc import Sequence
from functools import cache
from typing import Any, cast

from sqlalchemy import CursorResult, bindparam, delete, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from modelyard.domain.errors import Conflict, NotFound
from modelyard.domain.workers.tables import Host, Leadership, Reservation, Worker
from modelyard.kit.database import database_now, read_clock

SILENT_SECONDS = 30.0
"""A worker that sent no heartbeat for so long counts as offline."""
FORGOTTEN_SECONDS = 7 * 86400.0
"""A worker that was offline for so long is no longer listed."""
REPORTED = {"host", "pid", "stages", "slots", "queues", "host_memory_bytes", "gpu_memory_bytes", "state"}
"""Columns of a worker it writes itself."""


def report_worker(session: Session, worker: Worker, is_start: bool = False) -> None:
    """Write what a worker says of itself, at the database's time; the times in `worker` and what others decide are left alone.

    `is_start`: it has just started.
    """
    values: dict[str, Any] = worker.model_dump(include=REPORTED)
    values["heartbeat_at"] = database_now()
    if is_start:
        values["started_at"] = database_now()
    if _execute(session, update(Worker).where(col(Worker.id) == worker.id).values(**values)) == 0:
        now = read_clock(session)
        session.add(Worker(**{**worker.model_dump(), "drain_requested": False, "started_at": now, "heartbeat_at": now}))


def list_workers(session: Session) -> Sequence[Worker]:
    """All workers heard of within a week, by name."""
    return session.exec(select(Worker).order_by(col(Worker.id))).all()


def list_online(session: Session) -> Sequence[Worker]:
    """Workers that sent a heartbeat lately and take jobs."""
    fresh = col(Worker.heartbeat_at) > database_now() - SILENT_SECONDS
    is_open = (Worker.state == "online", col(Worker.drain_requested).is_(False))
    return session.exec(select(Worker).where(*is_open, fresh).order_by(col(Worker.id))).all()


def list_serving(session: Session) -> Sequence[Worker]:
    """Workers that take jobs and whose host is not excluded."""
    excluded = select(Host.name).where(col(Host.excluded_until) > database_now())
    names = set(session.exec(excluded).all())
    return [worker for worker in list_online(session) if worker.host not in names]


def may_claim(session: Session, worker_id: str) -> bool:
    """Whether a worker may take a job: it is not drained, and its host is not excluded. One not heard of yet may."""
    return session.execute(_find_closed(), {"worker_id": worker_id}).first() is None


@cache
def _find_closed() -> Any:
    """The worker, if it may take no job; made once, for every claim asks."""
    is_closed = col(Worker.drain_requested).is_(True) | (col(Host.excluded_until) > database_now())
    query = select(Worker.id).join(Host, col(Host.name) == Worker.host, isouter=True)
    return query.where(Worker.id == bindparam("worker_id"), is_closed)


def get_worker_or_raise(session: Session, worker_id: str) -> Worker:
    """A worker by its id. Raises `NotFound`."""
    worker = session.get(Worker, worker_id)
    if worker is None:
        raise NotFound(f"There is no worker {worker_id}; GET /v1/workers lists them", field="worker_id", value=worker_id)
    return worker


def is_offline(worker: Worker, now: float) -> bool:
    """Whether a worker said good-bye, or was not heard of for too long. `now`: the database's clock."""
    return worker.state == "offline" or now - worker.heartbeat_at > SILENT_SECONDS


def request_drain(session: Session, worker: Worker) -> None:
    """Ask a worker to take no more jobs and hand over those it runs. Raises `Conflict` if it is offline."""
    if is_offline(worker, read_clock(session)) and not worker.drain_requested:
        raise Conflict(
            f"Worker {worker.id} is offline and has nothing to hand over: what it ran continues elsewhere once its lease ends. "
            "To keep it empty, drain it when it is back, or exclude its host: "
            f"POST /v1/hosts/{worker.host}/exclude",
            field="worker_id",
            value=worker.id,
        )
    _set_drain(session, worker, True)


def end_drain(session: Session, worker: Worker) -> None:
    """Let a worker take jobs again."""
    _set_drain(session, worker, False)


def _set_drain(session: Session, worker: Worker, wanted: bool) -> None:
    session.execute(update(Worker).where(col(Worker.id) == worker.id).values(drain_requested=wanted))
    session.refresh(worker)


def mark_silent_offline(session: Session) -> int:
    """Mark workers without a heartbeat offline; return how many."""
    silent = (col(Worker.state) != "offline", col(Worker.heartbeat_at) < database_now() - SILENT_SECONDS)
    return _execute(session, update(Worker).where(*silent).values(state="offline"))


def forget_workers(session: Session) -> int:
    """Forget workers that have been offline for a week; return how many."""
    gone = (col(Worker.state) == "offline", col(Worker.heartbeat_at) < database_now() - FORGOTTEN_SECONDS)
    names = session.exec(select(Worker.id).where(*gone)).all()
    session.execute(delete(Reservation).where(col(Reservation.worker_id).in_(names)))
    return _execute(session, delete(Worker).where(*gone))


def take_lead(session: Session, role: str, holder: str, seconds: float) -> bool:
    """Become or stay the holder of a role for so long; False while somebody else's lease lasts."""
    mine_or_free = (
        col(Leadership.role) == role,
        (col(Leadership.holder) == holder) | (col(Leadership.expires_at) < database_now()),
    )
    values = {"holder": holder, "expires_at": database_now() + seconds}
    if _execute(session, update(Leadership).where(*mine_or_free).values(**values)):
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


def _execute(session: Session, statement: Any) -> int:
    return cast(CursorResult[Any], session.execute(statement)).rowcount
