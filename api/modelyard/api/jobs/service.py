"""What job endpoints do beyond one query."""

from redis.exceptions import RedisError

from modelyard.api.dependencies import Platform
from modelyard.api.jobs.schemas import JobError, JobPublic
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.tables import Job
from modelyard.domain.jobs.tickets import ring
from modelyard.kit.faults import fault
from modelyard.kit.logs import get_logger

FAILED_STATES = frozenset({JobState.FAILED, JobState.QUARANTINED, JobState.CANCELLED})
log = get_logger(__name__)


def show_job(job: Job) -> JobPublic:
    """A job as clients see it."""
    shown = JobPublic.model_validate(job)
    if job.state in FAILED_STATES:
        shown.error = JobError(reason=job.reason or job.state, message=job.message)
    return shown


def ring_or_leave(platform: Platform, jobs: list[Job]) -> None:
    """Ring for jobs that wait. If Redis does not answer, the scheduler rings later: the jobs are safe in the database."""
    fault("after_commit_before_publish")
    for job in jobs:
        if job.state != JobState.QUEUED:
            continue
        try:
            ring(platform.queue, job)
        except (OSError, RedisError) as error:
            log.warning("no ticket sent; the scheduler will", job_id=job.id, error=str(error))
            return
