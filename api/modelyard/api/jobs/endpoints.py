"""Routes of jobs."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, Header, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from modelyard.api.checkpoints.schemas import CheckpointPublic
from modelyard.api.dependencies import OnceDep, PageDep, PlatformDep, Reader, Writer
from modelyard.api.jobs.explanations import ExplanationPublic
from modelyard.api.jobs.schemas import (
    AttemptPublic,
    BatchCreate,
    BatchCreated,
    BatchedJob,
    EventPublic,
    JobPublic,
    LogPublic,
    MetricPublic,
)
from modelyard.api.jobs.service import create, ring_or_leave, show_job
from modelyard.api.jobs.streaming import stream_events
from modelyard.api.pages import PageOf, make_page
from modelyard.domain.errors import DomainError
from modelyard.domain.jobs import repository, stopping
from modelyard.domain.jobs.bodies import JobCreate
from modelyard.domain.jobs.checkpoints import list_views
from modelyard.domain.jobs.inquiry import explain_job
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.kit.database import read_clock

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
Cursor = Annotated[int, Query(ge=0, le=2**63 - 1, description="Id of the last one seen")]
Count = Annotated[int, Query(ge=1, le=5000)]


@router.post("", status_code=202, response_model=JobPublic)
async def create_job(body: JobCreate, platform: PlatformDep, caller: Writer, once: OnceDep) -> Response:
    """Submit a job. It is safe once this answers, whatever happens to Redis or the workers."""
    (row,) = (await create(platform, caller, once, [body])).rows
    return _accepted(show_job(row), Location=f"/v1/jobs/{row['id']}")


@router.post("/batch", status_code=202, response_model=BatchCreated[JobPublic] | BatchCreated[BatchedJob])
async def create_jobs(
    body: BatchCreate,
    platform: PlatformDep,
    caller: Writer,
    once: OnceDep,
    whole: Annotated[bool, Query(description="Answer with whole jobs instead of ids and states")] = False,
) -> Response:
    """Submit up to 500 jobs in one transaction: all of them, or none if one is wrong."""
    try:
        created = await create(platform, caller, once, body.jobs)
    except DomainError as error:
        if error.position is not None:
            error.field = f"jobs.{error.position}.{error.field}" if error.field else f"jobs.{error.position}"
        raise
    if whole:
        return _accepted(BatchCreated[JobPublic](data=[show_job(row) for row in created.rows]))
    return _accepted(BatchCreated[BatchedJob](data=[BatchedJob.model_validate(row) for row in created.rows]))


def _accepted(body: BaseModel, **headers: str) -> Response:
    # As text, not as an object: FastAPI would validate and copy it once more.
    return Response(body.model_dump_json(), 202, headers, "application/json")


@router.get("")
def list_jobs(
    platform: PlatformDep,
    caller: Reader,
    page: PageDep,
    state: Annotated[list[JobState] | None, Query(description="Only these states")] = None,
    kind: str | None = None,
    pipeline_id: str | None = None,
) -> PageOf[JobPublic]:
    """List jobs, newest first."""
    with platform.database.read() as session:
        rows = repository.list_jobs(
            session,
            caller.project_id,
            states=[str(each) for each in state or []],
            kind=kind,
            pipeline_id=pipeline_id,
            after=page.after,
            limit=page.limit + 1,
        )
        return make_page(rows, page.limit, show_job)


@router.get("/{job_id}")
def get_job(job_id: str, platform: PlatformDep, caller: Reader) -> JobPublic:
    """One job."""
    with platform.database.read() as session:
        return show_job(repository.get_job_or_raise(session, caller.project_id, job_id))


@router.post("/{job_id}/cancel", status_code=202)
def cancel_job(
    job_id: str,
    platform: PlatformDep,
    caller: Writer,
    keep_checkpoint: Annotated[bool, Query(description="False: end it without saving, and remove its checkpoints")] = True,
) -> JobPublic:
    """End a job: at once if it waits; if it runs it saves a checkpoint, leaves, and no process of it stays."""
    with platform.database.write() as session:
        job = repository.get_job_or_raise(session, caller.project_id, job_id, for_update=True)
        stopping.cancel(session, job, keep_checkpoint)
        return show_job(job)


@router.post("/{job_id}/pause", status_code=202)
def pause_job(job_id: str, platform: PlatformDep, caller: Writer) -> JobPublic:
    """Stop a job until it is resumed: at once if it waits; if it runs it saves and leaves. 409 where its kind cannot."""
    with platform.database.write() as session:
        job = repository.get_job_or_raise(session, caller.project_id, job_id, for_update=True)
        stopping.pause(session, job)
        return show_job(job)


@router.post("/{job_id}/resume", status_code=202)
def resume_job(job_id: str, later: BackgroundTasks, platform: PlatformDep, caller: Writer) -> JobPublic:
    """Let a paused job wait again, in its queue or for what it was held for; it continues from its checkpoint."""
    with platform.database.write() as session:
        job = repository.get_job_or_raise(session, caller.project_id, job_id, for_update=True)
        stopping.resume(session, job)
    later.add_task(ring_or_leave, platform, [job])
    return show_job(job)


@router.get("/{job_id}/explain")
def explain(job_id: str, platform: PlatformDep, caller: Reader) -> ExplanationPublic:
    """Why the job waits or why it failed, and what to do about it."""
    with platform.database.read() as session:
        job = repository.get_job_or_raise(session, caller.project_id, job_id)
        return ExplanationPublic.of(explain_job(session, job), read_clock(session))


@router.get("/{job_id}/attempts")
def list_attempts(job_id: str, platform: PlatformDep, caller: Reader) -> PageOf[AttemptPublic]:
    """All attempts, oldest first."""
    with platform.database.read() as session:
        repository.get_job_or_raise(session, caller.project_id, job_id)
        rows = repository.list_attempts(session, job_id)
        return make_page(rows, len(rows), AttemptPublic.model_validate)


@router.get("/{job_id}/checkpoints")
def list_checkpoints(job_id: str, platform: PlatformDep, caller: Reader) -> PageOf[CheckpointPublic]:
    """Checkpoints kept, newest first."""
    with platform.database.read() as session:
        views = list_views(session, repository.get_job_or_raise(session, caller.project_id, job_id))
        return make_page(views, len(views), CheckpointPublic.of)


@router.get(
    "/{job_id}/events",
    response_model=PageOf[EventPublic],
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
def list_events(
    job_id: str,
    platform: PlatformDep,
    caller: Reader,
    after: Cursor = 0,
    limit: Count = 200,
    order: Annotated[Literal["asc", "desc"], Query(description="Oldest or newest first; a stream is always `asc`")] = "asc",
    brief: Annotated[bool, Query(description="Without phases and figures, which a recipe may tell often; lists only")] = False,
    accept: Annotated[str, Header()] = "application/json",
    last_event_id: Annotated[int | None, Header(ge=0, le=2**63 - 1)] = None,
) -> Any:
    """Events in order, each in words too; with `Accept: text/event-stream` as a live stream that `Last-Event-ID` resumes."""
    with platform.database.read() as session:
        repository.get_job_or_raise(session, caller.project_id, job_id)
        if "text/event-stream" in accept.lower():
            stream = stream_events(platform, job_id, last_event_id or after)
            return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        look = repository.newest_events if order == "desc" else repository.list_events
        return make_page(look(session, job_id, after, limit + 1, brief), limit, EventPublic.of)


@router.get("/{job_id}/metrics")
def list_metrics(
    job_id: str, platform: PlatformDep, caller: Reader, name: str | None = None, after: Cursor = 0, limit: Count = 5000
) -> PageOf[MetricPublic]:
    """Metric points in the order they were reported."""
    with platform.database.read() as session:
        repository.get_job_or_raise(session, caller.project_id, job_id)
        rows = repository.list_metrics(session, job_id, name, after, limit + 1)
        return make_page(rows, limit, MetricPublic.model_validate)


@router.get("/{job_id}/logs")
def list_logs(job_id: str, platform: PlatformDep, caller: Reader, after: Cursor = 0, limit: Count = 500) -> PageOf[LogPublic]:
    """Log lines of all ranks, in the order they came."""
    with platform.database.read() as session:
        repository.get_job_or_raise(session, caller.project_id, job_id)
        rows = repository.list_logs(session, job_id, after, limit + 1)
        return make_page(rows, limit, LogPublic.model_validate)
