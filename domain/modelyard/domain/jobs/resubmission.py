"""Trying a finished job again, as a new job: what is over stays as it ended."""

from dataclasses import dataclass

from pydantic import ValidationError
from sqlmodel import Session

from modelyard.domain.errors import Conflict
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.queues import Shape
from modelyard.domain.jobs.repository import find_newer
from modelyard.domain.jobs.starting import Start
from modelyard.domain.jobs.submission import Approval, JobRequest, submit
from modelyard.domain.jobs.tables import Job
from modelyard.domain.specs import parse_spec

RETRIABLE = frozenset({JobState.FAILED, JobState.CANCELLED, JobState.QUARANTINED})


@dataclass(frozen=True)
class RetryChanges:
    """What may differ from the job that is tried again; None keeps it."""

    priority: int | None = None
    max_attempts: int | None = None


class NotRetriable(Conflict):
    """The job cannot be tried again; the sentence says what to do instead."""

    code = "not_retriable"

    def __init__(self, job: Job, why: str) -> None:
        super().__init__(f"Job {job.id} {why}", field="job_id", value=job.id)


def retry(session: Session, job: Job, changes: RetryChanges) -> Job:
    """Submit a job that belongs to no pipeline once more: with the same inputs, continuing from its last checkpoint.

    The caller has locked the row. Raises `NotRetriable`.
    """
    check_retriable(job)
    newer = find_newer(session, job.id)
    if newer is not None:
        raise NotRetriable(job, f"is tried again by {newer} already; retry that one if it does not succeed either")
    return submit(session, job.project_id, request_again(job, changes))


def check_retriable(job: Job) -> None:
    """Raise `NotRetriable` unless the job ended without success. Pure."""
    if job.state == JobState.SUCCEEDED:
        raise NotRetriable(job, "succeeded; to do it once more, submit it again: POST /v1/jobs")
    if job.state == JobState.PAUSED:
        raise NotRetriable(job, f"is paused; POST /v1/jobs/{job.id}/resume lets it go on")
    if job.state not in RETRIABLE:
        raise NotRetriable(job, f"is {job.state}; it can be retried once it has failed, or POST /v1/jobs/{job.id}/cancel first")


def request_again(job: Job, changes: RetryChanges) -> JobRequest:
    """What was asked for, with what changes. Pure. Raises `NotRetriable` for a spec this version does not know."""
    try:
        spec = parse_spec(job.spec)
    except ValidationError as error:
        raise NotRetriable(
            job, f"was submitted to another version, which understood its spec: {error.errors()[0]['msg']}"
        ) from error
    return JobRequest(
        spec=spec,
        name=job.name,
        priority=job.priority if changes.priority is None else changes.priority,
        shape=Shape(job.slots, job.accelerator, job.nodes),
        max_attempts=changes.max_attempts or job.max_attempts,
        preemptible=job.preemptible,
        time_limit_seconds=job.time_limit_seconds,
        start_at=job.start_at,
        needs_approval=job.needs_approval,
        retry_of=job.id,
        resume_from=job.resume_from,
        start=_start_of(job),
        reproduces=job.reproduces,
        # The inputs are the same ones: what somebody approved is what runs.
        approval=None if job.approved_at is None else Approval(job.approved_at, job.approved_by),
        avoid_hosts=job.avoid_hosts,
        inputs=job.inputs,
    )


def _start_of(job: Job) -> Start | None:
    if job.resume_from is None or job.resume_from_job is None or job.resume_from_step is None:
        return None
    return Start(job.resume_from, job.resume_from_job, job.resume_from_step)
