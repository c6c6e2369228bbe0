"""Every query about machines: strikes against them, and their exclusion."""

from collections.abc import Sequence

from sqlalchemy import delete
from sqlmodel import Session, col, select

from modelyard.domain.errors import NotFound
from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.tables import Attempt
from modelyard.domain.scheduling.strikes import BLAMED, STRIKE_WINDOW_SECONDS
from modelyard.domain.workers.tables import Host, Strike, Worker
from modelyard.kit.database import database_now, read_clock


def record_strike(session: Session, attempt: Attempt, outcome: Outcome) -> None:
    """Remember an attempt that ended as if its machine were to blame; nothing for other outcomes."""
    host = attempt.host or attempt.worker_id.partition("@")[2]
    if outcome in BLAMED and host:
        now = read_clock(session)
        session.add(Strike(host=host, job_id=attempt.job_id, attempt=attempt.seq, outcome=str(outcome), at=now))
        session.flush()


def list_strikes(session: Session) -> Sequence[Strike]:
    """Strikes recent enough to count, oldest first."""
    recent = col(Strike.at) > database_now() - STRIKE_WINDOW_SECONDS
    return session.exec(select(Strike).where(recent).order_by(col(Strike.at))).all()


def forget_strikes(session: Session) -> None:
    """Remove strikes too old to count."""
    session.execute(delete(Strike).where(col(Strike.at) <= database_now() - STRIKE_WINDOW_SECONDS))


def list_hosts(session: Session) -> Sequence[Host]:
    """Machines that were excluded at some time."""
    return session.exec(select(Host)).all()


def list_excluded(session: Session) -> dict[str, Host]:
    """Name -> machine where no job starts now."""
    query = select(Host).where(col(Host.excluded_until) > database_now())
    return {host.name: host for host in session.exec(query).all()}


def exclude(session: Session, name: str, seconds: float, because: str) -> Host:
    """Start no job on a machine for so long. Raises `NotFound` for a machine without workers."""
    now = read_clock(session)
    return _set(session, Host(name=name, excluded_at=now, excluded_until=now + seconds, excluded_because=because))


def include(session: Session, name: str) -> Host:
    """End an exclusion; strikes before this moment count no more. Raises `NotFound` for a machine without workers."""
    return _set(session, Host(name=name, excluded_at=None, excluded_until=read_clock(session), excluded_because=None))


def _set(session: Session, host: Host) -> Host:
    if session.exec(select(Worker.id).where(Worker.host == host.name).limit(1)).first() is None:
        raise NotFound(f"There is no worker on a host {host.name}; GET /v1/workers lists them", field="name", value=host.name)
    row = session.merge(host)
    session.flush()
    return row
