"""Reading the yard for placement: who waits, who runs where, which slots are kept. A handful of queries at one moment."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy
from sqlmodel import Session, col, select

from modelyard.domain.jobs.allowances import StartLimits
from modelyard.domain.jobs.lifecycle import ACTIVE, JobState
from modelyard.domain.jobs.prediction import TELLING_PROGRESS
from modelyard.domain.jobs.repository import list_claimable
from modelyard.domain.jobs.tables import OWNED, Attempt, Job, Seat
from modelyard.domain.jobs.tallies import count_claimable
from modelyard.domain.scheduling.yard import Pool, Reserved, Running, Waiting, Yard
from modelyard.domain.specs import KINDS
from modelyard.domain.workers.outlook import slot_names
from modelyard.domain.workers.repository import list_serving
from modelyard.domain.workers.tables import Reservation, Worker
from modelyard.kit.database import database_now, read_clock

HEADS = 8
"""Jobs looked at per queue: more could not start at once on most yards, and a look must stay short."""


def list_waiting(session: Session) -> list[Waiting]:
    """The first jobs of every queue that could be claimed now, and those slots are kept for; gangs left out."""
    now = read_clock(session)
    heads = [job for queue in sorted(count_claimable(session)) for job in list_claimable(session, queue, HEADS)]
    reserved = select(Job).join(Reservation, col(Reservation.job_id) == col(Job.id))
    waiting = reserved.where(Job.state == JobState.QUEUED, Job.not_before <= database_now())
    found = {job.id: job for job in [*heads, *session.exec(waiting).all()] if job.nodes == 1}
    limits = StartLimits(session)
    return [_describe_waiting(job, now) for job in found.values() if not limits.holds_back(job)]


def _describe_waiting(job: Job, now: float) -> Waiting:
    since = max(job.queued_at or job.submitted_at, job.not_before)
    return Waiting(
        job.id, job.queue, job.slots, job.accelerator, job.priority, job.order_key, now - since, frozenset(job.avoid_hosts)
    )


def survey(session: Session) -> Yard:
    """The yard at this moment."""
    now = read_clock(session)
    workers = list_serving(session)
    query = select(Reservation, Job.nodes).join(Job, col(Job.id) == col(Reservation.job_id))
    kept = session.exec(query.where(Reservation.expires_at > database_now())).all()
    return Yard(
        now=now,
        pools=[pool for worker in workers for pool in _list_pools(worker)],
        running=[*_list_running(session, now), *_list_seated(session, now)],
        reserved=[Reserved(row.job_id, row.worker_id, row.accelerator, row.slots, nodes > 1) for row, nodes in kept],
    )


def _list_pools(worker: Worker) -> list[Pool]:
    return [
        Pool(worker.id, worker.host, accelerator, frozenset(worker.queues), names)
        for accelerator in ("gpu", "cpu")
        if (names := _qualify(worker.id, slot_names(worker.slots, accelerator)))
    ]


def _qualify(worker_id: str, names: Sequence[str] | frozenset[str]) -> frozenset[str]:
    """Slot names unique in the yard: GPUs belong to the machine, shares of the CPU to the worker."""
    host = worker_id.partition("@")[2]
    return frozenset(f"{host if name.startswith('gpu') else worker_id}/{name}" for name in names)


def has_preemptible(session: Session, highest_priority: int) -> bool:
    """Whether some running job of at most this priority may be displaced."""
    running = (OWNED, Job.state == JobState.RUNNING, col(Job.preemptible).is_(True), Job.priority <= highest_priority)
    return session.exec(select(Job.id).where(*running).limit(1)).first() is not None


def _list_running(session: Session, now: float) -> list[Running]:
    # Columns, not rows: specs are long, and of hundreds of machines all running jobs are read.
    columns: Any = (*_OF_JOB, Attempt.worker_id, col(Attempt.slots).label("held"), *_TIMES)
    query: Any = sqlalchemy.select(*columns)
    rows = session.execute(query.join(Attempt, _NEWEST).where(OWNED, col(Job.state).in_(ACTIVE), Job.nodes == 1)).all()
    return [_describe_running(row, now) for row in rows]


def _list_seated(session: Session, now: float) -> list[Running]:
    """Seats of gangs. Who displaces one displaces all of its gang, and pays for all of them."""
    columns: Any = (*_OF_JOB, Seat.worker_id, col(Seat.slots).label("held"), *_TIMES)
    of_newest: Any = (col(Job.id) == col(Seat.job_id)) & (col(Job.attempt) == col(Seat.attempt))
    query: Any = sqlalchemy.select(*columns).join(Attempt, _NEWEST).join(Seat, of_newest)
    rows = session.execute(query.where(OWNED, col(Job.state).in_(ACTIVE), Seat.state == "running")).all()
    return [_describe_running(row, now) for row in rows]


_OF_JOB: Any = (Job.id, Job.kind, Job.slots, Job.nodes, Job.priority, Job.preemptible, Job.stop_requested, Job.progress)
_TIMES: Any = (Attempt.seq, Attempt.started_at, Attempt.saved_at, Attempt.resumed_from_step)
_NEWEST: Any = (col(Attempt.job_id) == col(Job.id)) & (col(Attempt.seq) == col(Job.attempt))


def _describe_running(row: Any, now: float) -> Running:
    kind = KINDS[row.kind]
    since = row.saved_at if kind.can_resume and row.saved_at is not None else row.started_at
    return Running(
        job_id=row.id,
        attempt=row.seq,
        slots=_qualify(row.worker_id, row.held),
        priority=row.priority,
        may_be_preempted=row.preemptible,
        is_service=kind.is_service,
        is_leaving=row.stop_requested is not None,
        ends_at=_predict_end(row, now),
        lost=row.slots * row.nodes * max(now - since, 0.0),
        is_seat=row.nodes > 1,
    )


def _predict_end(row: Any, now: float) -> float | None:
    """By its own pace. Of an attempt that continued an earlier one nobody knows how far that had come."""
    if row.progress < TELLING_PROGRESS or row.resumed_from_step is not None:
        return None
    return float(now + (now - row.started_at) * (1.0 - row.progress) / row.progress)
