"""Routes that look at a job before it runs."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool

from modelyard.api.dependencies import OnceDep, Platform, PlatformDep, Reader
from modelyard.api.errors import ApiError
from modelyard.api.jobs.service import create_requested, show_job
from modelyard.api.planning.models import ModelFiles
from modelyard.api.planning.preview import find_source, preview, take_sample
from modelyard.api.planning.schemas import MeasuredPublic, PlanCreate, PlanPublic, PreviewPublic
from modelyard.domain.jobs.bodies import JobCreate
from modelyard.domain.jobs.repository import get_job_or_raise
from modelyard.domain.jobs.submission import kind_of
from modelyard.domain.planning.probe import make_probe, measure
from modelyard.domain.planning.service import Planner, body_of
from modelyard.domain.planning.translation import TRAINING_KINDS
from modelyard.kit.database import read_clock

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post("/plan", responses={202: {"model": PlanPublic, "description": "The plan, and the probe that measures it"}})
async def plan_job(body: PlanCreate, platform: PlatformDep, caller: Reader, once: OnceDep, response: Response) -> PlanPublic:
    """What a job will need and when it would start. Takes what `POST /v1/jobs` takes, and creates nothing.

    With `probe: true` a few steps of it run as a job of their own that keeps nothing; once it is done, its own plan shows what
    was measured beside what was predicted.
    """
    planned = await run_in_threadpool(_plan, platform, caller.project_id, body)
    if not body.probe:
        return planned
    if not caller.may("write"):
        raise ApiError(403, "missing_scope", "A probe is a job: this API key lacks the scope 'write'", field="Authorization")
    (row,) = (await create_requested(platform, caller, once, [make_probe(body.to_request())])).rows
    response.status_code = 202
    response.headers["Location"] = f"/v1/jobs/{row['id']}/plan"
    return planned.model_copy(update={"probe": show_job(row)})


@router.get("/{job_id}/plan")
def get_plan(job_id: str, platform: PlatformDep, caller: Reader) -> PlanPublic:
    """The plan of a job there is, as if it had not run, and beside it what was measured."""
    files = ModelFiles(platform.store)
    with platform.database.read() as session:
        job = get_job_or_raise(session, caller.project_id, job_id)
        source = find_source(session, caller.project_id, body_of(job).to_request()) if job.kind in TRAINING_KINDS else None
    sample = take_sample(platform, source) if source else None
    with platform.database.read() as session:
        planner = Planner(session, caller.project_id, files.read_config, sample)
        shown = PlanPublic.of(planner.plan_existing(job), read_clock(session))
        return shown.model_copy(update={"measured": MeasuredPublic.model_validate(measure(session, job))})


def _plan(platform: Platform, project_id: str, body: JobCreate) -> PlanPublic:
    request = body.to_request()
    sample = None
    if kind_of(request) in TRAINING_KINDS:
        with platform.database.read() as session:
            source = find_source(session, project_id, request)
        sample = take_sample(platform, source)  # takes seconds: no transaction stays open meanwhile
    with platform.database.read() as session:
        planner = Planner(session, project_id, ModelFiles(platform.store).read_config, sample)
        return PlanPublic.of(planner.plan(body), read_clock(session))


@router.post("/preview")
def preview_job(
    body: JobCreate,
    platform: PlatformDep,
    caller: Reader,
    rows: Annotated[int, Query(ge=1, le=20, description="So many rows, spread over the training split")] = 3,
    tokenizer: Annotated[str | None, Query(description="A model whose tokenizer is used, where the job trains its own")] = None,
    answer: Annotated[
        str | None, Query(max_length=10_000, description="What rewards say of this, not of the known answer")
    ] = None,
) -> PreviewPublic:
    """Rows of a job's data as token ids, their text, and what of them is learned. Takes what `POST /v1/jobs` takes."""
    with platform.database.read() as session:
        source = find_source(session, caller.project_id, body.to_request(), tokenizer)
    return preview(platform, source, rows, answer)
