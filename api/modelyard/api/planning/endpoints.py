"""Routes that look at a job before it runs."""

from fastapi import APIRouter

from modelyard.api.dependencies import PlatformDep, Reader
from modelyard.api.planning.models import ModelFiles
from modelyard.api.planning.schemas import PlanPublic
from modelyard.domain.jobs.bodies import JobCreate
from modelyard.domain.planning.service import Planner
from modelyard.kit.database import read_clock

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post("/plan")
def plan_job(body: JobCreate, platform: PlatformDep, caller: Reader) -> PlanPublic:
    """What a job will need and when it would start. Takes what `POST /v1/jobs` takes, and creates nothing."""
    files = ModelFiles(platform.store)
    with platform.database.read() as session:
        planner = Planner(session, caller.project_id, files.read_config, lambda spec, inputs: None)
        return PlanPublic.of(planner.plan(body), read_clock(session))
