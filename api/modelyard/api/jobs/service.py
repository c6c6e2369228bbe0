"""What job endpoints do beyond one query."""

import asyncio
from collections.abc import Sequence

from modelyard.api.dependencies import Once, Platform
from modelyard.api.jobs.creation import Asked, Created
from modelyard.api.jobs.schemas import JobError, JobPublic
from modelyard.domain.jobs.bodies import JobCreate
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.submission import JobRequest, Row
from modelyard.domain.jobs.tables import Job
from modelyard.domain.jobs.tickets import write_letter
from modelyard.domain.projects.repository import Caller
from modelyard.kit.faults import fault

FAILED_STATES = frozenset({JobState.FAILED, JobState.QUARANTINED, JobState.CANCELLED})


def show_job(job: Job | Row) -> JobPublic:
    """A job as clients see it."""
    shown = JobPublic.model_validate(job)
    if shown.state in FAILED_STATES:
        shown.error = JobError(reason=shown.reason or shown.state, message=shown.message)
    return shown


async def create(platform: Platform, caller: Caller, once: Once, bodies: Sequence[JobCreate]) -> Created:
    """Create jobs, all or none, and return once they are committed; then ring for them.

    Raises `DomainError` with its field as the request has it, and what `GroupCommit.commit` raises.
    """
    return await create_requested(platform, caller, once, [body.to_request() for body in bodies])


async def create_requested(platform: Platform, caller: Caller, once: Once, requests: Sequence[JobRequest]) -> Created:
    """The same for requests that are none of a client's own words."""
    created = await platform.job_writer.commit(Asked(caller.project_id, requests, once.key, once.fingerprint))
    if created.is_new:
        asyncio.get_running_loop().call_soon(_ring_for, platform, created.rows)  # when the answer is on its way
    return created


def _ring_for(platform: Platform, rows: Sequence[Row]) -> None:
    fault("after_commit_before_publish")
    waiting = [row for row in rows if row["state"] == JobState.QUEUED]
    platform.tickets.send_together(write_letter(row["queue"], row["id"], row["attempt"]) for row in waiting)


def ring_or_leave(platform: Platform, jobs: list[Job]) -> None:
    """Ring for jobs that wait. If Redis does not answer, the scheduler rings later: the jobs are safe in the database."""
    fault("after_commit_before_publish")
    platform.tickets.send(write_letter(job.queue, job.id, job.attempt) for job in jobs if job.state == JobState.QUEUED)
