"""Who owns a job: claim, renew, finish. Each is one compare-and-set on the attempt number, judged by the database's clock."""

import random
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, update
from sqlmodel import Session, col, select

from modelyard.domain.deployments.repository import mark_stopped
from modelyard.domain.jobs.lifecycle import ACTIVE, JobState, Outcome, StaleAttempt, check_move
from modelyard.domain.jobs.retry import Past, decide_next
from modelyard.domain.jobs.selection import find_next
from modelyard.domain.jobs.tables import Attempt, Job, JobEvent, Seat
from modelyard.domain.jobs.tallies import note_move
from modelyard.domain.scheduling.standings import charge
from modelyard.domain.specs import KINDS
from modelyard.domain.usage.ledger import enter
from modelyard.domain.workers.hosts import record_strike
from modelyard.domain.workers.repository import may_claim
from modelyard.domain.workers.reservations import find_reserved
from modelyard.kit.database import database_now, read_clock
from modelyard.kit.identifiers import new_id


def change(session: Session, job: Job, state: JobState, event: dict[str, Any] | None = None, **values: Any) -> None:
    """Move a job to a state by compare-and-set on its present state and attempt, with an event in the same transaction.

    Raises `IllegalMove` if the table forbids it, `StaleAttempt` if somebody else moved the job first.
    """
    check_move(job.id, job.state, state)
    where = (col(Job.id) == job.id, col(Job.state) == job.state, col(Job.attempt) == job.attempt)
    before = job.state
    if state is JobState.QUEUED:
        values["queued_at"] = database_now()
    if _update_one(session, where, state=str(state), **values) == 0:
        raise StaleAttempt(job.id, job.attempt)
    note_move(session, job, before, state)
    session.expire(job)
    session.refresh(job)
    data = {"state": str(state), **(event or {})}
    add_event(session, job.id, job.attempt, "state", data)


def add_event(session: Session, job_id: str, attempt: int, type_: str, data: dict[str, Any]) -> None:
    """Write an event. Callers have updated the job's row before, so ids of one job appear in order of commit."""
    now = read_clock(session)
    session.add(JobEvent(job_id=job_id, attempt=attempt, type=type_, data=data, created_at=now))
    session.flush()


def claim(session: Session, queue: str, worker_id: str, slots: list[str], lease_seconds: float) -> Job | None:
    """Take the best waiting job of a queue and open its next attempt; None if none may start there, or the worker is closed.

    `worker_id`: `name@host`; `slots`: names such as `gpu-0`.
    """
    if not may_claim(session, worker_id):
        return None
    host = worker_id.partition("@")[2]
    for _ in range(10):
        job = find_reserved(session, queue, host) or find_next(session, queue, host)
        if job is None:
            return None
        number = job.attempt + 1
        try:
            _start(session, job, number, worker_id, lease_seconds)
        except StaleAttempt:
            session.expire_all()
            continue
        now = read_clock(session)
        attempt = Attempt(
            id=new_id("att"),
            job_id=job.id,
            seq=number,
            worker_id=worker_id,
            slots=slots,
            host=host,
            accelerator="gpu" if any(slot.startswith("gpu") for slot in slots) else "cpu",
            queued_at=job.queued_at,
            started_at=now,
        )
        session.add(attempt)
        session.flush()
        return job
    return None


def _start(session: Session, job: Job, number: int, worker_id: str, lease_seconds: float) -> None:
    change(
        session,
        job,
        JobState.RUNNING,
        {"attempt": number, "worker": worker_id},
        attempt=number,
        worker_id=worker_id,
        reason=None,
        message=None,
        started_at=database_now(),
        lease_expires_at=database_now() + lease_seconds,
    )


@dataclass(frozen=True)
class Renewal:
    """What a runner learns when it renews its lease."""

    stop_requested: str | None
    is_stalled: bool = False
    """Whether node 0 of a gang saw the attempt stand still."""


def renew(session: Session, job_id: str, attempt: int, lease_seconds: float) -> Renewal:
    """Prolong a lease. Raises `StaleAttempt` if the job is no longer this attempt's."""
    where = (col(Job.id) == job_id, col(Job.attempt) == attempt, col(Job.state).in_(ACTIVE))
    if _update_one(session, where, lease_expires_at=database_now() + lease_seconds) == 0:
        raise StaleAttempt(job_id, attempt)
    mine = (col(Attempt.job_id) == job_id, col(Attempt.seq) == attempt)
    session.execute(update(Attempt).where(*mine).values(heartbeat_at=database_now()))
    job = session.exec(select(Job).where(Job.id == job_id)).one()
    return Renewal(job.stop_requested)


def own(session: Session, job_id: str, attempt: int, **values: Any) -> Job:
    """Write to the job's row as its owner, and return it. Raises `StaleAttempt` for anyone else."""
    where = (col(Job.id) == job_id, col(Job.attempt) == attempt, col(Job.state).in_(ACTIVE))
    # An update even without values: it takes the row's lock, so one job's events and points are written one after another.
    if _update_one(session, where, **(values or {"attempt": attempt})) == 0:
        raise StaleAttempt(job_id, attempt)
    return session.exec(select(Job).where(Job.id == job_id)).one()


def finish(
    session: Session,
    job_id: str,
    attempt: int,
    outcome: Outcome,
    message: str | None = None,
    exit_code: int | None = None,
    failing_rank: int | None = None,
    **values: Any,
) -> Job:
    """Close an attempt and move its job on, as the retry policy decides. Raises `StaleAttempt` if it is no longer the owner.

    `failing_rank`: the first rank that failed, where one did.
    """
    job = own(session, job_id, attempt)
    if KINDS[job.kind].is_service:
        mark_stopped(session, job_id, attempt)  # else requests would go on being sent to a server that is gone
    attempts = session.exec(select(Attempt).where(Attempt.job_id == job_id).order_by(col(Attempt.seq))).all()
    latest = attempts[-1]
    latest.outcome, latest.message, latest.exit_code = str(outcome), message, exit_code
    latest.failing_rank = failing_rank
    latest.finished_at = read_clock(session)
    if job.nodes > 1 and failing_rank is not None:
        failed = session.get(Seat, (job_id, attempt, failing_rank // job.slots))
        latest.host = failed.worker_id.partition("@")[2] if failed else latest.host
    record_strike(session, latest, outcome)
    chance = random.random()  # noqa: S311 - spreads retries out, keeps no secret
    after = decide_next(job.stop_requested, [_past(each) for each in attempts], job.max_attempts, chance)
    if after.why:
        message = f"{message or outcome}; {after.why}"
    charge(session, job.project_id, job.slots * job.nodes, latest.finished_at - latest.started_at)
    enter(session, job, latest, goes_on=not after.state.is_finished())
    changes: dict[str, Any] = {
        **values,
        "lease_expires_at": None,
        "worker_id": None,
        # Kept where the checkpoints are still to be removed.
        "stop_requested": "discarded" if job.stop_requested == "discarded" and after.state is JobState.CANCELLED else None,
        "avoid_hosts": _with(job.avoid_hosts, after.avoid_host),
        "ready_at": job.ready_at if after.state is JobState.SUCCEEDED else None,
        "reason": _reason_of(after.state, outcome),
        "message": message,
        "not_before": database_now() + after.wait_seconds,
    }
    if after.state.is_finished():
        changes["finished_at"] = database_now()
    if after.state is JobState.SUCCEEDED:
        changes["progress"] = 1.0
    change(session, job, after.state, {"outcome": str(outcome), "message": message}, **changes)
    return job


def _reason_of(state: JobState, outcome: Outcome) -> str | None:
    """Why a job is where it is: as somebody wished, even if its attempt came to another end meanwhile. Pure."""
    if state in {JobState.CANCELLED, JobState.PAUSED}:
        return str(state)
    return None if outcome is Outcome.SUCCEEDED else str(outcome)


def _with(hosts: list[str], host: str | None) -> list[str]:
    return hosts if host is None or host in hosts else [*hosts, host]


def _past(attempt: Attempt) -> Past:
    """What the retry policy needs to know of an attempt."""
    lasted = (attempt.finished_at or attempt.started_at) - attempt.started_at
    host = attempt.host or attempt.worker_id.partition("@")[2]
    return Past(attempt.outcome or Outcome.NODE_LOST, lasted, attempt.saved_at is not None, host)


def _update_one(session: Session, where: tuple[Any, ...], **values: Any) -> int:
    result = cast(CursorResult[Any], session.execute(update(Job).where(*where).values(**values)))
    return result.rowcount
