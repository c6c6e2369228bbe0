"""Routes of pipelines."""

from fastapi import APIRouter, BackgroundTasks, Response
from sqlmodel import Session

from modelyard.api.dependencies import OnceDep, PageDep, PlatformDep, Reader, Writer
from modelyard.api.jobs.service import ring_or_leave, show_job
from modelyard.api.pages import PageOf, make_page
from modelyard.api.pipelines.schemas import PipelinePublic
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.stopping import cancel
from modelyard.domain.pipelines import repository, resubmission, service
from modelyard.domain.pipelines.bodies import PipelineCreate
from modelyard.domain.pipelines.lifecycle import newest_of_steps
from modelyard.domain.pipelines.tables import Pipeline

router = APIRouter(prefix="/v1/pipelines", tags=["pipelines"])


@router.post("", status_code=202)
def create_pipeline(
    body: PipelineCreate, response: Response, later: BackgroundTasks, platform: PlatformDep, caller: Writer, once: OnceDep
) -> PipelinePublic:
    """Submit all jobs of a pipeline, or none if one of them is wrong."""

    def make(session: Session) -> str:
        return service.create_pipeline(session, caller.project_id, body.name, body.to_steps(), body.reuse).id

    id_, is_new = once.create(caller, make)
    with platform.database.read() as session:
        jobs = list(repository.list_steps(session, id_))
        shown = _show(session, repository.get_pipeline_or_raise(session, caller.project_id, id_))
    if is_new:
        later.add_task(ring_or_leave, platform, jobs)
    response.headers["Location"] = f"/v1/pipelines/{id_}"
    return shown


@router.get("")
def list_pipelines(platform: PlatformDep, caller: Reader, page: PageDep) -> PageOf[PipelinePublic]:
    """List pipelines, newest first, without their jobs."""
    with platform.database.read() as session:
        rows = repository.list_pipelines(session, caller.project_id, page.after, page.limit + 1)
        return make_page(rows, page.limit, PipelinePublic.model_validate)


@router.get("/{pipeline_id}")
def get_pipeline(pipeline_id: str, platform: PlatformDep, caller: Reader) -> PipelinePublic:
    """One pipeline with its jobs."""
    with platform.database.read() as session:
        return _show(session, repository.get_pipeline_or_raise(session, caller.project_id, pipeline_id))


@router.post("/{pipeline_id}/cancel", status_code=202)
def cancel_pipeline(pipeline_id: str, platform: PlatformDep, caller: Writer) -> PipelinePublic:
    """Cancel every job of a pipeline that is not finished."""
    with platform.database.write() as session:
        pipeline = repository.get_pipeline_or_raise(session, caller.project_id, pipeline_id)
        for job in repository.list_steps(session, pipeline_id, for_update=True):
            if not JobState(job.state).is_finished():
                cancel(session, job)
        session.flush()
        return _show(session, pipeline)


@router.post("/{pipeline_id}/retry", status_code=202)
def retry_pipeline(
    pipeline_id: str, response: Response, later: BackgroundTasks, platform: PlatformDep, caller: Writer, once: OnceDep
) -> PipelinePublic:
    """Try the failed part again: steps that failed, were cancelled or quarantined get a new job, the others are untouched."""

    def make(session: Session) -> str:
        repository.get_pipeline_or_raise(session, caller.project_id, pipeline_id)
        resubmission.retry_pipeline(session, pipeline_id)
        return pipeline_id

    _, is_new = once.create(caller, make)
    with platform.database.read() as session:
        jobs = list(repository.list_steps(session, pipeline_id))
        shown = _show(session, repository.get_pipeline_or_raise(session, caller.project_id, pipeline_id))
    if is_new:
        later.add_task(ring_or_leave, platform, jobs)
    response.headers["Location"] = f"/v1/pipelines/{pipeline_id}"
    return shown


def _show(session: Session, pipeline: Pipeline) -> PipelinePublic:
    shown = PipelinePublic.model_validate(pipeline)
    jobs = repository.list_jobs_of(session, pipeline.id)
    steps = newest_of_steps(jobs)
    shown.jobs = [show_job(job) for job in steps]
    shown.replaced = [show_job(job) for job in jobs if job not in steps]
    return shown
