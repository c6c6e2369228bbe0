"""What people decide about a job: approve it, turn it down, try it again."""

from fastapi import APIRouter, BackgroundTasks, Response

from modelyard.api.dependencies import OnceDep, PlatformDep, Writer
from modelyard.api.jobs.schemas import ApprovalCreate, JobPublic, RejectionCreate, RetryCreate
from modelyard.api.jobs.service import ring_or_leave, show_job
from modelyard.domain.jobs import approval, repository
from modelyard.domain.jobs.resubmission import RetryChanges
from modelyard.domain.pipelines import resubmission
from modelyard.domain.pipelines.advancement import advance

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
NO_COMMENT = ApprovalCreate()
NO_CHANGES = RetryCreate()


@router.post("/{job_id}/approve", status_code=202)
def approve_job(
    job_id: str, later: BackgroundTasks, platform: PlatformDep, caller: Writer, body: ApprovalCreate = NO_COMMENT
) -> JobPublic:
    """Let a job that waits for approval go on, as soon as everything else it waits for is there."""
    with platform.database.write() as session:
        job = repository.get_job_or_raise(session, caller.project_id, job_id, for_update=True)
        approval.approve(session, job, caller.key_id, body.comment)
        advance(session, job_id)
    later.add_task(ring_or_leave, platform, [job])
    return show_job(job)


@router.post("/{job_id}/reject", status_code=202)
def reject_job(job_id: str, body: RejectionCreate, platform: PlatformDep, caller: Writer) -> JobPublic:
    """Turn down a job that waits for approval: it never runs, nor does what depends on it."""
    with platform.database.write() as session:
        job = repository.get_job_or_raise(session, caller.project_id, job_id, for_update=True)
        approval.reject(session, job, caller.key_id, body.reason)
        return show_job(job)


@router.post("/{job_id}/retry", status_code=202)
def retry_job(
    job_id: str,
    response: Response,
    later: BackgroundTasks,
    platform: PlatformDep,
    caller: Writer,
    once: OnceDep,
    body: RetryCreate = NO_CHANGES,
) -> JobPublic:
    """Try a job again that failed, was cancelled or quarantined: as a new job that continues from the last checkpoint.

    A step of a pipeline is replaced in it, and so are the steps behind it that failed because of it.
    """
    changes = RetryChanges(body.priority, body.max_attempts)
    id_, is_new = once.create(caller, lambda session: resubmission.retry_job(session, caller.project_id, job_id, changes).id)
    with platform.database.read() as session:
        job = repository.get_job_or_raise(session, caller.project_id, id_)
    if is_new:
        later.add_task(ring_or_leave, platform, [job])
    response.headers["Location"] = f"/v1/jobs/{id_}"
    return show_job(job)
