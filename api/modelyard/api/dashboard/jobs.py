"""Pages of jobs."""

from typing import Annotated

from fastapi import BackgroundTasks, Query, Request, Response
from fastapi.responses import JSONResponse

from modelyard.api.dashboard.charts import make_charts
from modelyard.api.dashboard.events import tell_newest
from modelyard.api.dashboard.log_tail import read_tail
from modelyard.api.dashboard.rendering import page
from modelyard.api.dashboard.routes import back_to, make_router
from modelyard.api.dashboard.session import Editor, SameOrigin, Viewer
from modelyard.api.dashboard.usage import make_segments
from modelyard.api.dependencies import PageDep, PlatformDep
from modelyard.api.jobs import endpoints
from modelyard.api.jobs.endpoints import Cursor
from modelyard.domain.jobs import repository
from modelyard.domain.jobs.checkpoints import list_views
from modelyard.domain.jobs.curves import newest_point, read_curves
from modelyard.domain.jobs.inquiry import explain_job
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.specs import KINDS
from modelyard.domain.sweeps.repository import find_trial_of
from modelyard.domain.usage.repository import report
from modelyard.domain.usage.sums import Grouping

router = make_router()
NEWEST_EVENTS = 8
"""On the job's own page; all are on the page of its events."""


@router.get("/jobs")
def show_jobs(
    request: Request, platform: PlatformDep, viewer: Viewer, wanted: PageDep, state: str = "", kind: str = ""
) -> Response:
    """All jobs, newest first, of one state or kind if asked."""
    with platform.database.read() as session:
        rows = repository.list_jobs(
            session,
            viewer.project_id,
            states=[state] if state else [],
            kind=kind or None,
            after=wanted.after,
            limit=wanted.limit + 1,
        )
    jobs = rows[: wanted.limit]
    after = jobs[-1].id if len(rows) > wanted.limit else None
    states = [str(each) for each in JobState]
    return page(request, "jobs", viewer, jobs=jobs, after=after, state=state, kind=kind, states=states, kinds=list(KINDS))


@router.get("/jobs/{job_id}")
def show_job(request: Request, job_id: str, platform: PlatformDep, viewer: Viewer) -> Response:
    """One job: why it is where it is, what it reports, what it made."""
    with platform.database.read() as session:
        job = repository.get_job_or_raise(session, viewer.project_id, job_id)
        spent = report(session, Grouping.ACCELERATOR, job_id=job_id)
        return page(
            request,
            "job",
            viewer,
            job=job,
            kind=KINDS[job.kind],
            explanation=explain_job(session, job),
            attempts=repository.list_attempts(session, job_id),
            checkpoints=list_views(session, job),
            log=read_tail(session, job_id),
            events=tell_newest(session, job_id, limit=NEWEST_EVENTS + 1),
            shown_events=NEWEST_EVENTS,
            newer=repository.find_newer(session, job_id),
            trial=find_trial_of(session, job_id),
            usage=[(row, make_segments(row, row.split.total)) for row in spent],
        )


@router.get("/jobs/{job_id}/events")
def show_events(
    request: Request,
    job_id: str,
    platform: PlatformDep,
    viewer: Viewer,
    after: Cursor = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:
    """All that happened to a job, newest first."""
    with platform.database.read() as session:
        job = repository.get_job_or_raise(session, viewer.project_id, job_id)
        events = tell_newest(session, job_id, after, limit + 1)
    older = events[limit - 1].id if len(events) > limit else None
    return page(request, "events", viewer, job=job, events=events[:limit], older=older, is_newest=not after)


@router.get("/jobs/{job_id}/curves")
def get_curves(job_id: str, platform: PlatformDep, viewer: Viewer, after: Cursor = 0) -> Response:
    """The job's charts as JSON; 204 if nothing came since the point `after`."""
    with platform.database.read() as session:
        job = repository.get_job_or_raise(session, viewer.project_id, job_id)
        newest = newest_point(session, job_id)
        is_finished = JobState(job.state).is_finished()
        if newest == after and not is_finished:
            return Response(status_code=204)
        charts = [chart.as_dict() for chart in make_charts(read_curves(session, job_id))]
    return JSONResponse({"newest": newest, "is_finished": is_finished, "charts": charts})


@router.post("/jobs/{job_id}/cancel", dependencies=[SameOrigin])
def cancel(job_id: str, platform: PlatformDep, viewer: Editor) -> Response:
    """End the job."""
    endpoints.cancel_job(job_id, platform, viewer)
    return back_to(f"/jobs/{job_id}")


@router.post("/jobs/{job_id}/pause", dependencies=[SameOrigin])
def pause(job_id: str, platform: PlatformDep, viewer: Editor) -> Response:
    """Ask the job to save and leave."""
    endpoints.pause_job(job_id, platform, viewer)
    return back_to(f"/jobs/{job_id}")


@router.post("/jobs/{job_id}/resume", dependencies=[SameOrigin])
def resume(job_id: str, later: BackgroundTasks, platform: PlatformDep, viewer: Editor) -> Response:
    """Queue the paused job again."""
    endpoints.resume_job(job_id, later, platform, viewer)
    return back_to(f"/jobs/{job_id}")
