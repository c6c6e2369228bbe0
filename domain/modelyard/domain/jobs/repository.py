"""Every query about jobs that is not about owning one."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlmodel import Session, col, select

from modelyard.domain.errors import NotFound
from modelyard.domain.jobs.lifecycle import ACTIVE, JobState
from modelyard.domain.jobs.narration import DETAILS
from modelyard.domain.jobs.tables import QUEUED, SUCCEEDED, Attempt, Checkpoint, Job, JobEvent, LogChunk, MetricPoint
from modelyard.kit.database import database_now, read_clock


def get_job_or_raise(session: Session, project_id: str, job_id: str, for_update: bool = False) -> Job:
    """A job of a project; `for_update`: nobody else moves it before this transaction ends. Raises `NotFound`."""
    job = session.get(Job, job_id, with_for_update=for_update or None)
    if job is None or job.project_id != project_id:
        raise NotFound(f"There is no job {job_id} in this project; GET /v1/jobs lists them", field="job_id", value=job_id)
    return job


def list_jobs(
    session: Session,
    project_id: str,
    *,
    states: Sequence[str] = (),
    kind: str | None = None,
    pipeline_id: str | None = None,
    after: str | None = None,
    limit: int = 20,
) -> Sequence[Job]:
    """Newest first; `after` is the id of the last job of the page before."""
    wanted: dict[Any, Any] = {Job.project_id: project_id, Job.kind: kind, Job.pipeline_id: pipeline_id}
    same = [column == value for column, value in wanted.items() if value is not None]
    if after:
        same.append(Job.id < after)
    # Jobs of one kind are in the index apart by state; those of a pipeline are few.
    several = sorted(set(states)) or (list(JobState) if kind and not pipeline_id else [])
    if len(several) > 1:
        same = [col(Job.id).in_(_newest_ids(same, several, limit))]
    elif several:
        same.append(Job.state == several[0])
    return session.exec(select(Job).where(*same).order_by(col(Job.id).desc()).limit(limit)).all()


def _newest_ids(same: Sequence[Any], states: Sequence[str], limit: int) -> Any:
    """The newest ids in any of several states: one range of an index each, for the database would sort all jobs of them."""
    newest = sqlalchemy.select(col(Job.id)).where(*same).order_by(col(Job.id).desc()).limit(limit)
    ranges = [newest.where(col(Job.state) == state) for state in states]
    merged = sqlalchemy.union_all(*(sqlalchemy.select(each.subquery().c.id) for each in ranges)).subquery()
    return sqlalchemy.select(merged.c.id).order_by(merged.c.id.desc()).limit(limit)


def list_attempts(session: Session, job_id: str) -> Sequence[Attempt]:
    """Oldest first."""
    return session.exec(select(Attempt).where(Attempt.job_id == job_id).order_by(col(Attempt.seq))).all()


def list_checkpoints(session: Session, job_id: str) -> Sequence[Checkpoint]:
    """Newest first, the one to resume from at the front.

    By attempt before step: an attempt that had to pass over a damaged checkpoint starts at an earlier step.
    """
    order = (col(Checkpoint.attempt).desc(), col(Checkpoint.step).desc())
    readable = (Checkpoint.job_id == job_id, col(Checkpoint.removed_at).is_(None))
    return session.exec(select(Checkpoint).where(*readable).order_by(*order)).all()


@dataclass(frozen=True)
class Resumable:
    """A checkpoint a job may continue from."""

    checkpoint: Checkpoint
    nodes: int
    """How many nodes stored a part of it: those of the job that made it."""


def list_resumable(session: Session, job_id: str) -> list[Resumable]:
    """Checkpoints a job may continue from, best first: its own, those of the jobs it tries again with the same inputs, and last
    the one it was submitted to begin at."""
    first = job = session.get(Job, job_id)
    wanted = _input_ids(job) if job is not None else {}
    found: list[Resumable] = []
    while job is not None:
        if _input_ids(job) == wanted and job.stop_requested != "discarded":  # those are about to be removed
            found += [Resumable(each, job.nodes) for each in list_checkpoints(session, job.id)]
        job = session.get(Job, job.retry_of) if job.retry_of else None
    start = find_resumable(session, first.resume_from) if first is not None and first.resume_from else None
    return found if start is None else [*found, start]


def find_resumable(session: Session, checkpoint_id: str) -> Resumable | None:
    """A checkpoint, whoever made it; None if it was removed."""
    query = select(Checkpoint, Job.nodes).join(Job, col(Job.id) == col(Checkpoint.job_id))
    row = session.exec(query.where(Checkpoint.id == checkpoint_id, col(Checkpoint.removed_at).is_(None))).first()
    return None if row is None else Resumable(*row)


def list_tries(session: Session, job: Job) -> list[Job]:
    """A job, and each that tries it again, in turn."""
    tries = [job]
    while (newer := session.exec(select(Job).where(Job.retry_of == tries[-1].id)).first()) is not None:
        tries.append(newer)
    return tries


def find_newer(session: Session, job_id: str) -> str | None:
    """Id of the job that tries a job again, if there is one."""
    return session.exec(select(Job.id).where(Job.retry_of == job_id)).first()


def list_with_fingerprint(session: Session, project_id: str, fingerprint: str, limit: int = 5) -> Sequence[Job]:
    """Jobs that succeeded with the same spec and inputs, newest first."""
    query = select(Job).where(Job.project_id == project_id, Job.fingerprint == fingerprint, SUCCEEDED)
    return session.exec(query.order_by(col(Job.id).desc()).limit(limit)).all()


def _input_ids(job: Job) -> dict[str, str]:
    return {place: given["id"] for place, given in job.inputs.items()}


def list_events(session: Session, job_id: str, after: int = 0, limit: int = 200, is_brief: bool = False) -> Sequence[JobEvent]:
    """In order of id, those after `after`; `is_brief`: without the details recipes tell."""
    query = _after(JobEvent, job_id, after, limit)
    events: Sequence[JobEvent] = session.exec(query.where(col(JobEvent.type).not_in(DETAILS)) if is_brief else query).all()
    return events


def newest_events(session: Session, job_id: str, before: int = 0, limit: int = 200, is_brief: bool = False) -> Sequence[JobEvent]:
    """Newest first, those before the id `before` if given; `is_brief`: without the details recipes tell."""
    query = select(JobEvent).where(JobEvent.job_id == job_id)
    if before:
        query = query.where(col(JobEvent.id) < before)
    if is_brief:
        query = query.where(col(JobEvent.type).not_in(DETAILS))
    return session.exec(query.order_by(col(JobEvent.id).desc()).limit(limit)).all()


def list_logs(session: Session, job_id: str, after: int = 0, limit: int = 500) -> Sequence[LogChunk]:
    """In order of id, those after `after`."""
    chunks: Sequence[LogChunk] = session.exec(_after(LogChunk, job_id, after, limit)).all()
    return chunks


def last_log_lines(session: Session, job_id: str, attempt: int, count: int = 20, rank: int | None = None) -> list[str]:
    """The last lines an attempt wrote, oldest first; `rank`: only those of one rank."""
    query = select(LogChunk).where(LogChunk.job_id == job_id, LogChunk.attempt == attempt)
    if rank is not None:
        query = query.where(LogChunk.rank == rank)
    chunks = session.exec(query.order_by(col(LogChunk.id).desc()).limit(count)).all()
    lines = [line for chunk in reversed(chunks) for line in chunk.text.splitlines() if line.strip()]
    return lines[-count:]


def newest_logs(session: Session, job_id: str, limit: int = 50) -> Sequence[LogChunk]:
    """The newest chunks of all ranks, oldest first."""
    query = select(LogChunk).where(LogChunk.job_id == job_id).order_by(col(LogChunk.id).desc()).limit(limit)
    return session.exec(query).all()[::-1]


def list_metrics(
    session: Session, job_id: str, name: str | None = None, after: int = 0, limit: int = 5000
) -> Sequence[MetricPoint]:
    """In order of id, those after `after`."""
    query = _after(MetricPoint, job_id, after, limit)
    # Not by the primary key itself: the database would walk through everybody's points to spare itself a sort.
    unnamed = query.order_by(None).order_by(col(MetricPoint.id) + 0)
    query = query.where(MetricPoint.name == name) if name else unnamed
    points: Sequence[MetricPoint] = session.exec(query).all()
    return points


def _after(table: Any, job_id: str, after: int, limit: int) -> Any:
    return select(table).where(table.job_id == job_id, table.id > after).order_by(table.id).limit(limit)


def list_with_dead_lease(session: Session, grace_seconds: float) -> Sequence[Job]:
    """Jobs whose runner renewed nothing for so long that its own deadline has killed it."""
    jobs: Sequence[Job] = session.exec(_with_dead_lease(grace_seconds)).all()
    return jobs


def find_with_dead_lease(session: Session, job_id: str, grace_seconds: float) -> Job | None:
    """A job, locked, if its lease is dead now: it may have been renewed at the last moment since it was listed."""
    job: Job | None = session.exec(_with_dead_lease(grace_seconds).where(Job.id == job_id).with_for_update()).first()
    return job


def _with_dead_lease(grace_seconds: float) -> Any:
    return select(Job).where(col(Job.state).in_(ACTIVE), col(Job.lease_expires_at) < database_now() - grace_seconds)


@dataclass(frozen=True)
class Lease:
    """Who owns a job, and until when: None for nobody."""

    attempt: int
    expires_at: float | None


def find_leases(session: Session, job_ids: Collection[str]) -> tuple[dict[str, Lease], float]:
    """Job id -> its lease, unknown ids left out; and the database's clock."""
    query = select(Job.id, Job.attempt, Job.lease_expires_at).where(col(Job.id).in_(job_ids))
    return {id_: Lease(attempt, expires_at) for id_, attempt, expires_at in session.exec(query).all()}, read_clock(session)


def find_job(session: Session, job_id: str, for_update: bool = False) -> Job | None:
    """A job whatever its project: for the platform's own processes, never for a request."""
    return session.get(Job, job_id, with_for_update=for_update or None)


def list_unrung(session: Session, queue: str, limit: int) -> Sequence[tuple[str, int]]:
    """Id and newest attempt of waiting jobs of a queue, in the order they will be claimed: what their tickets say."""
    query = select(Job.id, Job.attempt).where(Job.queue == queue, QUEUED, Job.not_before <= database_now())
    return session.exec(query.order_by(col(Job.order_key), col(Job.id)).limit(limit)).all()


def list_claimable(session: Session, queue: str, limit: int) -> Sequence[Job]:
    """Waiting jobs of a queue that could be claimed now, in the order they will be."""
    query = select(Job).where(Job.queue == queue, QUEUED, Job.not_before <= database_now())
    return session.exec(query.order_by(col(Job.order_key), col(Job.id)).limit(limit)).all()
