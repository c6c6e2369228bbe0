"""Gangs in the database: those that wait, the workers they could have, and the claim of all their seats in one transaction."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, literal_column
from sqlmodel import Session, col, select

from modelyard.domain.jobs.allowances import StartLimits, may_start
from modelyard.domain.jobs.lifecycle import ACTIVE, JobState, Outcome, StaleAttempt
from modelyard.domain.jobs.ownership import change, finish, own
from modelyard.domain.jobs.queues import is_gang_queue
from modelyard.domain.jobs.seats import SeatState, list_lingering, list_seats
from modelyard.domain.jobs.tables import QUEUED, Attempt, Job, JobTally, Seat
from modelyard.domain.scheduling.fair_share import find_penalties
from modelyard.domain.scheduling.gangs import Placement, WaitingGang, WorkerView
from modelyard.domain.scheduling.standings import read_usage
from modelyard.domain.workers.repository import list_serving
from modelyard.domain.workers.tables import Reservation, Worker
from modelyard.kit.database import database_now, read_clock
from modelyard.kit.identifiers import new_id

HEADS = 8
"""Gangs looked at per project and queue: more could not start at once on most yards, and a look must stay short."""
_IS_GANG = col(Job.nodes) > literal_column("1")
"""Written out, not bound: the planner takes the index on gangs only if it sees the number."""


def list_waiting_gangs(session: Session, grace_seconds: float) -> list[WaitingGang]:
    """The first gangs of every project that could start now; not those its quota holds back, nor those whose last attempt may
    still have processes somewhere."""
    heads = [job for project, queue in _list_lines(session) for job in _list_heads(session, project, queue)]
    if not heads:
        return []
    limits, found = StartLimits(session), {job.id: job for job in [*heads, *_list_with_reservations(session)]}
    jobs = [job for job in found.values() if not limits.holds_back(job)]
    lingering = {seat.job_id for seat in list_lingering(session, [job.id for job in jobs if job.attempt], grace_seconds)}
    projects = {job.project_id for job in jobs}
    penalties = find_penalties(read_usage(session, projects)) if len(projects) > 1 else {}
    now = read_clock(session)
    return [describe_gang(job, now, penalties.get(job.project_id, 0.0)) for job in jobs if job.id not in lingering]


def _list_lines(session: Session) -> list[tuple[str, str]]:
    """Project and queue, wherever gangs wait; read from the tallies, so that a long line costs no more than a short one."""
    lines = select(JobTally.project_id, JobTally.queue).where(JobTally.state == JobState.QUEUED)
    lines = lines.group_by(col(JobTally.project_id), col(JobTally.queue)).having(func.sum(col(JobTally.jobs)) > 0)
    return [(project, queue) for project, queue in sorted(session.exec(lines).all()) if is_gang_queue(queue)]


def _list_heads(session: Session, project_id: str, queue: str) -> Sequence[Job]:
    waiting = (Job.project_id == project_id, Job.queue == queue, QUEUED, Job.not_before <= database_now())
    return session.exec(select(Job).where(*waiting).order_by(col(Job.order_key), col(Job.id)).limit(HEADS)).all()


def _list_with_reservations(session: Session) -> Sequence[Job]:
    """Those workers are kept for, wherever they are in the line by now: others may have made room for them."""
    waiting = (_IS_GANG, Job.state == JobState.QUEUED, Job.not_before <= database_now())
    return session.exec(select(Job).where(*waiting, col(Job.id).in_(select(Reservation.job_id)))).all()


def list_gang_queues(session: Session) -> Sequence[str]:
    """Queues where gangs wait."""
    return session.exec(select(Job.queue).where(_IS_GANG, Job.state == JobState.QUEUED).distinct()).all()


def describe_gang(job: Job, now: float, set_back_seconds: float = 0.0) -> WaitingGang:
    """A job as `place` sees it."""
    order = (job.priority, job.order_key, set_back_seconds)
    waited = now - max(job.queued_at or job.submitted_at, job.not_before)
    return WaitingGang(job.id, job.stage, job.nodes, job.slots, job.accelerator, *order, waited, frozenset(job.avoid_hosts))


def view_workers(session: Session) -> list[WorkerView]:
    """Workers that take jobs, with the slots that are free now: by their last heartbeat, and by what was given away since."""
    workers = list_serving(session)
    held = _count_held(session, [worker.id for worker in workers])
    reserved = _list_kept(session)
    return [_view(worker, held.get(worker.id, {}), reserved.get(worker.id, {})) for worker in workers]


def _view(worker: Worker, held: dict[str, int], reserved: dict[str, dict[str, int]]) -> WorkerView:
    total = {name: int(slots["total"]) for name, slots in worker.slots.items()}
    free = {name: min(int(slots["free"]), total[name] - held.get(name, 0)) for name, slots in worker.slots.items()}
    return WorkerView(worker.id, worker.host, frozenset(worker.stages), total, free, reserved)


def _count_held(session: Session, worker_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """Worker -> accelerator -> slots of jobs and seats it was given."""
    newest = (col(Attempt.job_id) == col(Job.id)) & (col(Attempt.seq) == col(Job.attempt))
    active = (col(Job.state).in_(ACTIVE), col(Attempt.outcome).is_(None))
    alone = select(Job.worker_id, Attempt.accelerator, Job.slots).join(Attempt, newest).where(*active, Job.nodes == 1)
    seated = (
        select(Seat.worker_id, Attempt.accelerator, Job.slots)
        .join(Job, (col(Job.id) == col(Seat.job_id)) & (col(Job.attempt) == col(Seat.attempt)))
        .join(Attempt, newest)
        .where(col(Seat.worker_id).in_(worker_ids), Seat.state != SeatState.LEFT, *active)
    )
    held: dict[str, dict[str, int]] = {}
    for worker_id, accelerator, slots in [*session.exec(alone).all(), *session.exec(seated).all()]:
        of_worker = held.setdefault(worker_id or "", {})
        of_worker[accelerator] = of_worker.get(accelerator, 0) + slots
    return held


def _list_kept(session: Session) -> dict[str, dict[str, dict[str, int]]]:
    """Worker -> waiting job -> accelerator -> slots kept free for it."""
    query = select(Reservation).join(Job, col(Job.id) == col(Reservation.job_id))
    kept: dict[str, dict[str, dict[str, int]]] = {}
    for row in session.exec(query.where(Job.state == JobState.QUEUED, Reservation.expires_at > database_now())).all():
        kept.setdefault(row.worker_id, {})[row.job_id] = {row.accelerator: row.slots}
    return kept


def claim_gang(session: Session, placement: Placement, ready_seconds: float, lease_seconds: float, grace: float) -> Job | None:
    """Open a gang's next attempt with all its seats; None if the job is no longer to be had, or an old seat lingers."""
    query = select(Job).where(Job.id == placement.job_id, Job.state == JobState.QUEUED, Job.not_before <= database_now())
    job = session.exec(query.with_for_update()).first()
    if job is None or list_lingering(session, [job.id], grace) or not may_start(session, job.project_id, job.slots * job.nodes):
        return None
    number, first = job.attempt + 1, placement.worker_ids[0]
    # Until node 0 has its seat nobody renews the job's lease, so it lasts for as long as that may take.
    lease = database_now() + ready_seconds + lease_seconds
    event = {"attempt": number, "worker": first, "workers": list(placement.worker_ids)}
    opened = {"attempt": number, "worker_id": first, "started_at": database_now(), "lease_expires_at": lease}
    try:
        change(session, job, JobState.RUNNING, event, reason=None, message=None, **opened)
    except StaleAttempt:
        return None
    _open(session, job, placement, ready_seconds)
    return job


def _open(session: Session, job: Job, placement: Placement, ready_seconds: float) -> None:
    now, first = read_clock(session), placement.worker_ids[0]
    attempt = Attempt(id=new_id("att"), job_id=job.id, seq=job.attempt, worker_id=first, queued_at=job.queued_at, started_at=now)
    attempt.host, attempt.accelerator = first.partition("@")[2], placement.accelerator
    session.add(attempt)
    session.execute(delete(Reservation).where(col(Reservation.job_id) == job.id))
    for node_rank, worker_id in enumerate(placement.worker_ids):
        session.add(Seat(job_id=job.id, attempt=job.attempt, node_rank=node_rank, worker_id=worker_id, made_at=now))
    session.flush()
    keep(session, placement, job.slots, now + ready_seconds)  # until its worker has taken them


def keep(session: Session, placement: Placement, slots: int, until: float) -> None:
    """Keep slots of a gang's workers free of other jobs; each worker sees it at its next look."""
    for worker_id in placement.worker_ids:
        kept: dict[str, Any] = {"slots": slots, "accelerator": placement.accelerator, "expires_at": until}
        session.merge(Reservation(worker_id=worker_id, job_id=placement.job_id, **kept))
    session.flush()


def keep_only(session: Session, kept: Sequence[tuple[Placement, int]], until: float) -> None:
    """Keep workers free for these waiting gangs, each with its slots per node, and no longer for any other."""
    waiting = select(Job.id).where(_IS_GANG, Job.state == JobState.QUEUED)
    session.execute(delete(Reservation).where(col(Reservation.job_id).in_(waiting)))
    for placement, slots in kept:
        keep(session, placement, slots, until)


def keep_instead(session: Session, placement: Placement, slots: int, until: float) -> None:
    """Keep these workers free for a gang, and none of those that were before."""
    session.execute(delete(Reservation).where(col(Reservation.job_id) == placement.job_id))
    keep(session, placement, slots, until)


def has_kept(session: Session) -> bool:
    """Whether any worker is kept free for a waiting gang."""
    query = select(Reservation.job_id).join(Job, col(Job.id) == col(Reservation.job_id))
    return session.exec(query.where(_IS_GANG, Job.state == JobState.QUEUED)).first() is not None


def list_unready(session: Session, ready_seconds: float) -> Sequence[Seat]:
    """Seats of running gangs that their workers did not take in time, one of each gang."""
    query = select(Seat).join(Job, (col(Job.id) == col(Seat.job_id)) & (col(Job.attempt) == col(Seat.attempt)))
    late = (Seat.state == SeatState.RESERVED, col(Seat.made_at) + ready_seconds < database_now())
    seats = session.exec(query.where(_IS_GANG, col(Job.state).in_(ACTIVE), *late)).all()
    return list({seat.job_id: seat for seat in seats}.values())


def end_unready(session: Session, seat: Seat, ready_seconds: float) -> bool:
    """End an attempt whose seat was not taken in time, as a hand-over. False if it was taken or the attempt ended meanwhile."""
    message = f"{seat.worker_id} did not begin its part (node {seat.node_rank}) within {ready_seconds:g} s"
    try:
        own(session, seat.job_id, seat.attempt)  # from here on the seat stays as it is
    except StaleAttempt:
        return False
    seats = {each.node_rank: each for each in list_seats(session, seat.job_id, seat.attempt)}
    if seats[seat.node_rank].state != SeatState.RESERVED:
        return False
    finish(session, seat.job_id, seat.attempt, Outcome.PREEMPTED, message)
    return True
