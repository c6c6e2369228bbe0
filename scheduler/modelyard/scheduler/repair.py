"""Ending what nobody owns any more: dead leases, silent workers, requests long answered."""

from dataclasses import dataclass

from sqlmodel import Session

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.parts import part_keys
from modelyard.domain.jobs.recording import forget_checkpoints, list_discarded
from modelyard.domain.jobs.repository import find_with_dead_lease, list_checkpoints, list_with_dead_lease
from modelyard.domain.jobs.seats import GRACE_SHARE
from modelyard.domain.jobs.tables import Job
from modelyard.domain.projects.repository import forget_requests
from modelyard.domain.workers.hosts import forget_strikes
from modelyard.domain.workers.repository import forget_workers, mark_silent_offline
from modelyard.kit.database import Database
from modelyard.kit.faults import fault
from modelyard.kit.logs import get_logger
from modelyard.kit.settings import Settings
from modelyard.kit.storage import ArtifactStore

log = get_logger(__name__)


def end_dead_leases(database: Database, settings: Settings) -> None:
    """Close attempts whose runner is gone; the retry policy then decides what becomes of the job."""
    grace = settings.lease_seconds * GRACE_SHARE
    with database.read() as session:
        lost = [job.id for job in list_with_dead_lease(session, grace)]
    for job_id in lost:
        with database.write() as session:
            closed = end_dead_lease(session, job_id, grace, settings.lease_seconds)
        if closed is not None:  # said once it is committed
            log.warning("lease ended", job_id=job_id, worker=closed.worker_id, attempt=closed.number)
        fault("lease_end_before_ring")


@dataclass(frozen=True)
class Closed:
    """The attempt whose lease ended."""

    worker_id: str | None
    number: int


def end_dead_lease(session: Session, job_id: str, grace_seconds: float, lease_seconds: float) -> Closed | None:
    """Close the attempt of one job, unless its lease was renewed or reported since it was listed."""
    job = find_with_dead_lease(session, job_id, grace_seconds)
    if job is None:
        return None
    closed = Closed(job.worker_id, job.attempt)
    message = f"Worker {closed.worker_id} was not heard of for {lease_seconds:g} s"
    finish(session, job.id, closed.number, Outcome.NODE_LOST, message)
    return closed


def forget_silent_workers(database: Database) -> None:
    """Mark workers offline that sent no heartbeat, and forget those offline for a week."""
    with database.write() as session:
        mark_silent_offline(session)
        forget_strikes(session)
        forgotten = forget_workers(session)
    if forgotten:
        log.info("forgot workers", workers=forgotten)


def forget_old_requests(database: Database) -> None:
    """Let go of Idempotency-Keys nobody will use again, so that their table does not grow for ever."""
    with database.write() as session:
        forgotten = forget_requests(session)
    if forgotten:
        log.info("forgot old requests", requests=forgotten)


def discard_checkpoints(database: Database, store: ArtifactStore) -> None:
    """Remove the checkpoints of jobs that were cancelled without keeping them.

    The store first: if this stops half-way, the rows still say what is left to remove. Nobody reads what they name any more.
    """
    with database.read() as session:
        found = {job.id: _keys_of(session, job) for job in list_discarded(session)}
    for job_id, keys in found.items():
        for key in keys:
            store.delete(key)
        with database.write() as session:
            forget_checkpoints(session, job_id)
        log.info("checkpoints discarded", job_id=job_id, checkpoints=len(keys))


def _keys_of(session: Session, job: Job) -> list[str]:
    return [key for each in list_checkpoints(session, job.id) for key in part_keys(each.artifact_key, job.nodes)]
