"""Routes of deployments."""

from typing import Any

from fastapi import APIRouter, BackgroundTasks, Response

from modelyard.api.dependencies import OnceDep, PageDep, PlatformDep, Reader, Writer
from modelyard.api.deployments.schemas import DeploymentCreate, DeploymentPublic, InteractionPublic
from modelyard.api.jobs.schemas import JobPublic
from modelyard.api.jobs.service import ring_or_leave, show_job
from modelyard.api.pages import PageOf, make_page
from modelyard.domain.deployments import repository
from modelyard.domain.jobs.queues import Shape
from modelyard.domain.jobs.repository import get_job_or_raise
from modelyard.domain.jobs.stopping import cancel
from modelyard.domain.jobs.submission import JobRequest, submit
from modelyard.domain.registry.lineage import trace
from modelyard.domain.specs.deployment import DeploySpec

router = APIRouter(prefix="/v1/deployments", tags=["deployments"])


@router.post("", status_code=202)
def create_deployment(
    body: DeploymentCreate, response: Response, later: BackgroundTasks, platform: PlatformDep, caller: Writer, once: OnceDep
) -> JobPublic:
    """Deploy a model: a `deploy` job, which stays running while it serves."""
    spec = DeploySpec(**body.model_dump(exclude={"resources"}))
    request = JobRequest(spec, shape=Shape(body.resources.slots, body.resources.accelerator, body.resources.nodes))
    id_, is_new = once.create(caller, lambda session: submit(session, caller.project_id, request).id)
    with platform.database.read() as session:
        job = get_job_or_raise(session, caller.project_id, id_)
    if is_new:
        later.add_task(ring_or_leave, platform, [job])
    response.headers["Location"] = f"/v1/jobs/{id_}"
    return show_job(job)


@router.get("")
def list_deployments(platform: PlatformDep, caller: Reader, page: PageDep) -> PageOf[DeploymentPublic]:
    """List deployments, newest first."""
    with platform.database.read() as session:
        rows = repository.list_deployments(session, caller.project_id, page.after, page.limit + 1)
        return make_page(rows, page.limit, DeploymentPublic.model_validate)


@router.get("/{reference}")
def get_deployment(reference: str, platform: PlatformDep, caller: Reader) -> DeploymentPublic:
    """One deployment, by id, or the newest of a name."""
    with platform.database.read() as session:
        return DeploymentPublic.model_validate(repository.get_deployment_or_raise(session, caller.project_id, reference))


@router.post("/{reference}/stop", status_code=202)
def stop_deployment(reference: str, platform: PlatformDep, caller: Writer) -> JobPublic:
    """Stop serving: cancels the deploy job."""
    with platform.database.write() as session:
        deployment = repository.get_deployment_or_raise(session, caller.project_id, reference)
        job = get_job_or_raise(session, caller.project_id, deployment.job_id, for_update=True)
        cancel(session, job)
        return show_job(job)


@router.get("/{reference}/interactions")
def list_interactions(reference: str, platform: PlatformDep, caller: Reader, page: PageDep) -> PageOf[InteractionPublic]:
    """The requests it answered, newest first."""
    with platform.database.read() as session:
        deployment = repository.get_deployment_or_raise(session, caller.project_id, reference)
        rows = repository.list_interactions(session, deployment.id, page.after, page.limit + 1)
        return make_page(rows, page.limit, InteractionPublic.model_validate)


@router.get("/{reference}/lineage")
def get_lineage(reference: str, platform: PlatformDep, caller: Reader) -> dict[str, Any]:
    """Its ancestors: the deploy job, the model, the job that made the model, and so on."""
    with platform.database.read() as session:
        deployment = repository.get_deployment_or_raise(session, caller.project_id, reference)
        return trace(session, "deployment", deployment.id)
