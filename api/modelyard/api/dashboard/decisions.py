"""What people decide on the pages: approve a job, turn it down, try again what failed."""

from typing import Annotated

from fastapi import BackgroundTasks, Form, Response

from modelyard.api.dashboard.routes import back_to, make_router
from modelyard.api.dashboard.session import Editor, SameOrigin
from modelyard.api.dependencies import PlatformDep
from modelyard.api.jobs import decisions
from modelyard.api.jobs.schemas import ApprovalCreate, RejectionCreate
from modelyard.api.jobs.service import ring_or_leave
from modelyard.domain.jobs.resubmission import RetryChanges
from modelyard.domain.pipelines import repository, resubmission

router = make_router()
Reason = Annotated[str, Form(min_length=1, max_length=1000)]


@router.post("/jobs/{job_id}/approve", dependencies=[SameOrigin])
def approve(job_id: str, later: BackgroundTasks, platform: PlatformDep, viewer: Editor) -> Response:
    """Let the job go on."""
    decisions.approve_job(job_id, later, platform, viewer, ApprovalCreate(comment="On its page"))
    return back_to(f"/jobs/{job_id}")


@router.post("/jobs/{job_id}/reject", dependencies=[SameOrigin])
def reject(job_id: str, reason: Reason, platform: PlatformDep, viewer: Editor) -> Response:
    """Turn the job down."""
    decisions.reject_job(job_id, RejectionCreate(reason=reason), platform, viewer)
    return back_to(f"/jobs/{job_id}")


@router.post("/jobs/{job_id}/retry", dependencies=[SameOrigin])
def retry(job_id: str, later: BackgroundTasks, platform: PlatformDep, viewer: Editor) -> Response:
    """Try the job again, and show the new one."""
    with platform.database.write() as session:
        job = resubmission.retry_job(session, viewer.project_id, job_id, RetryChanges())
    later.add_task(ring_or_leave, platform, [job])
    return back_to(f"/jobs/{job.id}")


@router.post("/pipelines/{pipeline_id}/retry", dependencies=[SameOrigin])
def retry_part(pipeline_id: str, later: BackgroundTasks, platform: PlatformDep, viewer: Editor) -> Response:
    """Try the failed part of the pipeline again."""
    with platform.database.write() as session:
        repository.get_pipeline_or_raise(session, viewer.project_id, pipeline_id)
        jobs = resubmission.retry_pipeline(session, pipeline_id)
    later.add_task(ring_or_leave, platform, jobs)
    return back_to(f"/pipelines/{pipeline_id}")
