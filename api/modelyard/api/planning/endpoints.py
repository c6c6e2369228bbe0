"""Routes that look at a job before it runs."""

from typing import Annotated

from fastapi import APIRouter, Query

from modelyard.api.dependencies import PlatformDep, Reader
from modelyard.api.planning.models import ModelFiles
from modelyard.api.planning.preview import find_source, preview, take_sample
from modelyard.api.planning.schemas import PlanPublic, PreviewPublic
from modelyard.domain.jobs.bodies import JobCreate
from modelyard.domain.jobs.submission import kind_of
from modelyard.domain.planning.service import Planner
from modelyard.domain.planning.translation import TRAINING_KINDS
from modelyard.kit.database import read_clock

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post("/plan")
def plan_job(body: JobCreate, platform: PlatformDep, caller: Reader) -> PlanPublic:
    """What a job will need and when it would start. Takes what `POST /v1/jobs` takes, and creates nothing."""
    request = body.to_request()
    sample = None
    if kind_of(request) in TRAINING_KINDS:
        with platform.database.read() as session:
            source = find_source(session, caller.project_id, request)
        sample = take_sample(platform, source)  # takes seconds: no transaction stays open meanwhile
    with platform.database.read() as session:
        planner = Planner(session, caller.project_id, ModelFiles(platform.store).read_config, sample)
        return PlanPublic.of(planner.plan(body), read_clock(session))


@router.post("/preview")
def preview_job(
    body: JobCreate,
    platform: PlatformDep,
    caller: Reader,
    rows: Annotated[int, Query(ge=1, le=20, description="So many rows, spread over the training split")] = 3,
    tokenizer: Annotated[str | None, Query(description="A model whose tokenizer is used, where the job trains its own")] = None,
) -> PreviewPublic:
    """Rows of a job's data as token ids, their text, and what of them is learned. Takes what `POST /v1/jobs` takes."""
    with platform.database.read() as session:
        source = find_source(session, caller.project_id, body.to_request(), tokenizer)
    return preview(platform, source, rows)
