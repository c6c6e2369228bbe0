"""The first page: what runs, what waits, who works, what answers."""

from fastapi import Request, Response

from modelyard.api.cluster.endpoints import list_queues
from modelyard.api.cluster.workers import show_workers
from modelyard.api.dashboard.rendering import page
from modelyard.api.dashboard.routes import make_router
from modelyard.api.dashboard.session import Viewer
from modelyard.api.dependencies import PlatformDep
from modelyard.domain.deployments.repository import count_interactions_each, list_deployments
from modelyard.domain.jobs.lifecycle import ACTIVE, JobState
from modelyard.domain.jobs.repository import list_jobs
from modelyard.domain.jobs.tallies import count_by_state
from modelyard.domain.pipelines.repository import list_pipelines, list_steps
from modelyard.domain.workers.repository import list_online

router = make_router()
ROWS = 6


@router.get("/")
def show_overview(request: Request, platform: PlatformDep, viewer: Viewer) -> Response:
    """Everything at a glance."""
    queues = list_queues(platform, viewer)
    with platform.database.read() as session:
        counts = count_by_state(session, viewer.project_id)
        pipelines = list_pipelines(session, viewer.project_id, limit=ROWS)
        deployments = list_deployments(session, viewer.project_id, limit=ROWS)
        return page(
            request,
            "overview",
            viewer,
            counts={str(state): counts.get(state, 0) for state in JobState},
            queues=queues,
            workers=show_workers(session),
            online={worker.id for worker in list_online(session)},
            running=list_jobs(session, viewer.project_id, states=sorted(ACTIVE), limit=20),
            recent=list_jobs(session, viewer.project_id, limit=ROWS),
            pipelines=[(pipeline, list_steps(session, pipeline.id)) for pipeline in pipelines],
            deployments=deployments,
            answered=count_interactions_each(session, [deployment.id for deployment in deployments]),
        )
