"""Pages of pipelines."""

from fastapi import Request, Response

from modelyard.api.dashboard.graph import draw_graph
from modelyard.api.dashboard.rendering import page
from modelyard.api.dashboard.routes import back_to, make_router
from modelyard.api.dashboard.session import Editor, SameOrigin, Viewer
from modelyard.api.dependencies import PageDep, PlatformDep
from modelyard.api.pipelines.endpoints import cancel_pipeline
from modelyard.domain.pipelines import repository
from modelyard.domain.pipelines.lifecycle import newest_of_steps

router = make_router()


@router.get("/pipelines")
def show_pipelines(request: Request, platform: PlatformDep, viewer: Viewer, wanted: PageDep) -> Response:
    """All pipelines, newest first, with their steps as dots."""
    with platform.database.read() as session:
        rows = repository.list_pipelines(session, viewer.project_id, wanted.after, wanted.limit + 1)
        shown = rows[: wanted.limit]
        after = shown[-1].id if len(rows) > wanted.limit else None
        listed = [(pipeline, repository.list_steps(session, pipeline.id)) for pipeline in shown]
    return page(request, "pipelines", viewer, pipelines=listed, after=after)


@router.get("/pipelines/{pipeline_id}")
def show_pipeline(request: Request, pipeline_id: str, platform: PlatformDep, viewer: Viewer) -> Response:
    """One pipeline: its steps as a graph and as a table."""
    with platform.database.read() as session:
        pipeline = repository.get_pipeline_or_raise(session, viewer.project_id, pipeline_id)
        jobs = repository.list_jobs_of(session, pipeline_id)
    steps = newest_of_steps(jobs)
    replaced = [job for job in jobs if job not in steps]
    return page(request, "pipeline", viewer, pipeline=pipeline, steps=steps, replaced=replaced, graph=draw_graph(steps))


@router.post("/pipelines/{pipeline_id}/cancel", dependencies=[SameOrigin])
def cancel(pipeline_id: str, platform: PlatformDep, viewer: Editor) -> Response:
    """Cancel every step that is not finished."""
    cancel_pipeline(pipeline_id, platform, viewer)
    return back_to(f"/pipelines/{pipeline_id}")
