"""Seats: each worker's part in an attempt of a gang. Taken, renewed and left by compare-and-set, by the database's clock.

The attempt itself belongs to the runner of node 0, through the job's lease as always; the other nodes hold leases on their
seats. The next attempt starts only when no seat of an earlier one can have a living process.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, cast

from sqlalchemy import CursorResult, delete, insert, update
from sqlmodel import Session, col, select

from modelyard.domain.jobs.lifecycle import ACTIVE, JobState, Outcome, StaleAttempt
from modelyard.domain.jobs.ownership import Renewal, finish, own
from modelyard.domain.jobs.tables import Attempt, Job, LogChunk, Seat
from modelyard.domain.workers.tables import Reservation
from modelyard.kit.database import database_now

GRACE_SHARE = 0.25
"""A lease is called dead this share of its length after it ended: the runner ends its own tree before that."""


class SeatState(StrEnum):
    """Where a seat is in its life."""

    RESERVED = "reserved"
    RUNNING = "running"
    LEFT = "left"


def seat_of(job_id: str, attempt: int, node_rank: int) -> Seat:
    """A seat by its key alone, for functions that need no more."""
    return Seat(job_id=job_id, attempt=attempt, node_rank=node_rank, worker_id="", made_at=0.0)


def list_seats(session: Session, job_id: str, attempt: int) -> Sequence[Seat]:
    """In order of node rank."""
    query = select(Seat).where(Seat.job_id == job_id, Seat.attempt == attempt)
    return session.exec(query.order_by(col(Seat.node_rank))).all()


def list_reserved(session: Session, worker_id: str) -> Sequence[tuple[Seat, Job, Attempt]]:
    """Seats a worker has yet to take, those of attempts that ended meanwhile included."""
    query = select(Seat, Job, Attempt).join(Job, col(Job.id) == col(Seat.job_id))
    query = query.join(Attempt, (col(Attempt.job_id) == col(Seat.job_id)) & (col(Attempt.seq) == col(Seat.attempt)))
    return session.exec(query.where(Seat.worker_id == worker_id, Seat.state == SeatState.RESERVED)).all()


def list_lingering(session: Session, job_ids: Sequence[str], grace_seconds: float = 0.0) -> Sequence[Seat]:
    """Seats that may still have processes: not left, and their lease not over for so long.

    A seat never taken has none. Node 0 has no lease of its own: its attempt ends only after its processes or the job's lease.
    """
    lingers = (Seat.state == SeatState.RUNNING, col(Seat.lease_expires_at) + grace_seconds > database_now())
    return session.exec(select(Seat).where(col(Seat.job_id).in_(job_ids), *lingers)).all()


def take(session: Session, seat: Seat, slots: list[str], lease_seconds: float) -> Job:
    """Begin a worker's part. Raises `StaleAttempt` if the attempt is over or the seat is no longer reserved."""
    # Writing to the job's row orders this against the end of the attempt: a seat is taken before it, or not at all.
    more = {"lease_expires_at": database_now() + lease_seconds} if seat.node_rank == 0 else {}
    job = own(session, seat.job_id, seat.attempt, **more)
    lease = database_now() + lease_seconds if seat.node_rank > 0 else None
    values = {"state": str(SeatState.RUNNING), "slots": slots, "lease_expires_at": lease}
    if _update_seat(session, seat, {SeatState.RESERVED}, values) == 0:
        raise StaleAttempt(seat.job_id, seat.attempt)
    if seat.node_rank == 0:
        mine = (col(Attempt.job_id) == seat.job_id, col(Attempt.seq) == seat.attempt)
        session.execute(update(Attempt).where(*mine).values(slots=slots))
    kept = (col(Reservation.worker_id) == seat.worker_id, col(Reservation.job_id) == seat.job_id)
    session.execute(delete(Reservation).where(*kept))
    return job


def renew_seat(session: Session, job_id: str, attempt: int, node_rank: int, lease_seconds: float) -> Renewal:
    """Prolong a seat's lease. Raises `StaleAttempt` once the seat is left or the attempt is over."""
    # No lock on the job: until this is committed, the lease that others see is the one before it.
    mine = (Job.id == job_id, Job.attempt == attempt, col(Job.state).in_(ACTIVE))
    newest = (col(Attempt.job_id) == col(Job.id)) & (col(Attempt.seq) == col(Job.attempt))
    found = session.exec(select(Job.stop_requested, Attempt.stalled_at).join(Attempt, newest).where(*mine)).first()
    lease = database_now() + lease_seconds
    if (
        found is None
        or _update_seat(session, seat_of(job_id, attempt, node_rank), {SeatState.RUNNING}, {"lease_expires_at": lease}) == 0
    ):
        raise StaleAttempt(job_id, attempt)
    stop_requested, stalled_at = found
    return Renewal(stop_requested, stalled_at is not None)


def leave(
    session: Session,
    seat: Seat,
    outcome: Outcome | None = None,
    message: str | None = None,
    exit_code: int | None = None,
    failing_rank: int | None = None,
) -> None:
    """End a worker's part: its processes are gone. `outcome`: only if it says something about the attempt."""
    values = {"state": str(SeatState.LEFT), "outcome": outcome and str(outcome), "message": message, "lease_expires_at": None}
    more = {"exit_code": exit_code, "failing_rank": failing_rank}
    _update_seat(session, seat, {SeatState.RESERVED, SeatState.RUNNING}, {**values, **more})


def give_back(session: Session, seat: Seat, outcome: Outcome, message: str) -> None:
    """Leave a seat whose slots are not to be had any more; the attempt ends as a hand-over. Raises `StaleAttempt`."""
    leave(session, seat, outcome, message)
    finish(session, seat.job_id, seat.attempt, outcome, message)


def ask_to_stop(session: Session, job_id: str, attempt: int, reason: str) -> None:
    """Ask all nodes of an attempt to save and leave, unless somebody asked before."""
    running = (col(Job.id) == job_id, col(Job.attempt) == attempt, col(Job.state) == JobState.RUNNING)
    session.execute(update(Job).where(*running, col(Job.stop_requested).is_(None)).values(stop_requested=reason))


def add_logs(session: Session, seat: Seat, logs: Sequence[tuple[int, str]], now: float) -> None:
    """Write log lines, (rank, text), of a seat's ranks. Raises `StaleAttempt` once the seat is left or the attempt is over."""
    current = (Job.id == seat.job_id, Job.attempt == seat.attempt, col(Job.state).in_(ACTIVE))
    mine = (Seat.job_id == seat.job_id, Seat.attempt == seat.attempt, Seat.node_rank == seat.node_rank)
    query = select(Job.id).join(Seat, col(Seat.job_id) == col(Job.id)).where(*current, *mine, Seat.state == SeatState.RUNNING)
    if session.exec(query).first() is None:
        raise StaleAttempt(seat.job_id, seat.attempt)
    row = {"job_id": seat.job_id, "attempt": seat.attempt, "at": now}
    session.execute(insert(LogChunk), [{**row, "rank": rank, "text": text.replace("\0", "")} for rank, text in logs])


def say_stalled(session: Session, job_id: str, attempt: int) -> None:
    """Ask all nodes where their ranks are: the attempt stands still. Raises `StaleAttempt`."""
    own(session, job_id, attempt)
    mine = (col(Attempt.job_id) == job_id, col(Attempt.seq) == attempt)
    session.execute(update(Attempt).where(*mine).values(stalled_at=database_now()))


def say_places(session: Session, seat: Seat, places: Mapping[int, str | None]) -> None:
    """Say where a node's ranks stand, once their stacks are in the log; None for one that did not answer."""
    _update_seat(session, seat, {SeatState.RUNNING}, {"places": {str(rank): place for rank, place in places.items()}})


def set_rendezvous(session: Session, job_id: str, attempt: int, address: str) -> None:
    """Say where the ranks meet. Raises `StaleAttempt`."""
    own(session, job_id, attempt)
    mine = (col(Attempt.job_id) == job_id, col(Attempt.seq) == attempt)
    session.execute(update(Attempt).where(*mine).values(rendezvous=address))


def _update_seat(session: Session, seat: Seat, states: set[SeatState], values: dict[str, Any]) -> int:
    key = (col(Seat.job_id) == seat.job_id, col(Seat.attempt) == seat.attempt, col(Seat.node_rank) == seat.node_rank)
    statement = update(Seat).where(*key, col(Seat.state).in_(states)).values(**values)
    result = cast(CursorResult[Any], session.execute(statement.execution_options(synchronize_session=False)))
    return result.rowcount
