"""Ending what nobody owns any more: dead leases, silent workers."""

from modelyard.domain.deployments.repository import mark_stopped
from modelyard.domain.jobs.lifecycle import Outcome, StaleAttempt
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.repository import list_with_dead_lease
from modelyard.domain.specs import KINDS
from modelyard.domain.workers.repository import mark_silent_offline
from modelyard.kit.database import Database
from modelyard.kit.logs import get_logger
from modelyard.kit.settings import Settings

GRACE_SHARE = 0.25
"""A lease is called dead this share of its length after it ended: the runner ends its own tree before that."""
log = get_logger(__name__)


def end_dead_leases(database: Database, settings: Settings) -> None:
    """Close attempts whose runner is gone; the retry policy then decides what becomes of the job."""
    with database.read() as session:
        lost = list_with_dead_lease(session, settings.lease_seconds * GRACE_SHARE)
    for job in lost:
        try:
            with database.write() as session:
                if KINDS[job.kind].is_service:
                    mark_stopped(session, job.id, job.attempt)
                message = f"Worker {job.worker_id} was not heard of for {settings.lease_seconds:g} s"
                finish(session, job.id, job.attempt, Outcome.NODE_LOST, message)
            log.warning("lease ended", job_id=job.id, attempt=job.attempt, worker=job.worker_id)
        except StaleAttempt:
            continue  # it was reported meanwhile


def forget_silent_workers(database: Database) -> None:
    """Mark workers offline that sent no heartbeat."""
    with database.write() as session:
        mark_silent_offline(session)
