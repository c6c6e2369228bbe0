"""Pages of sweeps."""

from typing import Annotated

from fastapi import Query, Request, Response
from fastapi.responses import JSONResponse

from modelyard.api.dashboard.rendering import page
from modelyard.api.dashboard.routes import back_to, make_router
from modelyard.api.dashboard.session import Editor, SameOrigin, Viewer
from modelyard.api.dashboard.trial_charts import chart_trials
from modelyard.api.dependencies import PageDep, PlatformDep
from modelyard.api.sweeps import endpoints
from modelyard.domain.sweeps.repository import get_sweep_or_raise

router = make_router()


@router.get("/sweeps")
def show_sweeps(request: Request, platform: PlatformDep, viewer: Viewer, wanted: PageDep) -> Response:
    """All sweeps, newest first."""
    found = endpoints.list_sweeps(platform, viewer, wanted)
    return page(request, "sweeps", viewer, sweeps=found.data, after=found.next)


@router.get("/sweeps/{sweep_id}")
def show_sweep(request: Request, sweep_id: str, platform: PlatformDep, viewer: Viewer) -> Response:
    """One sweep: its trials, their values at the rungs, and the best so far."""
    sweep = endpoints.get_sweep(sweep_id, platform, viewer)
    best = sweep.items[sweep.best] if sweep.best is not None else None
    return page(request, "sweep", viewer, sweep=sweep, best=best)


@router.get("/sweeps/{sweep_id}/charts")
def get_charts(
    sweep_id: str, platform: PlatformDep, viewer: Viewer, after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0
) -> Response:
    """The best so far, and the metric over each parameter, as JSON; 204 if nothing came since the decision `after`."""
    with platform.database.read() as session:
        row = get_sweep_or_raise(session, viewer.project_id, sweep_id)
    if row.revision == after and row.finished_at is None:
        return Response(status_code=204)
    charts = [chart.as_dict() for chart in chart_trials(endpoints.get_sweep(sweep_id, platform, viewer))]
    return JSONResponse({"newest": row.revision, "is_finished": row.finished_at is not None, "charts": charts})


@router.post("/sweeps/{sweep_id}/pause", dependencies=[SameOrigin])
def pause(sweep_id: str, platform: PlatformDep, viewer: Editor) -> Response:
    """Give out no more work."""
    endpoints.pause_sweep(sweep_id, platform, viewer)
    return back_to(f"/sweeps/{sweep_id}")


@router.post("/sweeps/{sweep_id}/resume", dependencies=[SameOrigin])
def resume(sweep_id: str, platform: PlatformDep, viewer: Editor) -> Response:
    """Let it go on."""
    endpoints.resume_sweep(sweep_id, platform, viewer)
    return back_to(f"/sweeps/{sweep_id}")


@router.post("/sweeps/{sweep_id}/cancel", dependencies=[SameOrigin])
def cancel(sweep_id: str, platform: PlatformDep, viewer: Editor) -> Response:
    """End it, with the best so far."""
    endpoints.cancel_sweep(sweep_id, platform, viewer)
    return back_to(f"/sweeps/{sweep_id}")
