"""Pages of schedules."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from fastapi import BackgroundTasks, Request, Response
from sqlmodel import Session

from modelyard.api.dashboard.rendering import page
from modelyard.api.dashboard.routes import back_to, make_router
from modelyard.api.dashboard.session import Editor, SameOrigin, Viewer
from modelyard.api.dependencies import Once, PageDep, PlatformDep
from modelyard.api.schedules import endpoints
from modelyard.api.schedules.schemas import SchedulePatch, SchedulePublic
from modelyard.domain.jobs.tables import Job
from modelyard.domain.pipelines.tables import Pipeline
from modelyard.domain.schedules.repository import list_slots
from modelyard.domain.schedules.tables import ScheduleSlot

RUNS_SHOWN = 30
router = make_router()


@dataclass(frozen=True)
class Run:
    """What became of one time of a schedule, as a page shows it."""

    slot: ScheduleSlot
    made: Job | Pipeline | None
    """What was submitted; None where nothing was, or it was removed since."""
    local: str
    """The time on the clocks of the schedule's zone."""


@router.get("/schedules")
def show_schedules(request: Request, platform: PlatformDep, viewer: Viewer, wanted: PageDep) -> Response:
    """All schedules, newest first, each with its next time and its last run."""
    found = endpoints.list_schedules(platform, viewer, wanted)
    with platform.database.read() as session:
        listed = [(schedule, next(iter(_list_runs(session, schedule, 1)), None)) for schedule in found.data]
    return page(request, "schedules", viewer, schedules=listed, after=found.next, local=show_local)


@router.get("/schedules/{schedule_id}")
def show_schedule(request: Request, schedule_id: str, platform: PlatformDep, viewer: Viewer) -> Response:
    """One schedule: its next times, its last runs, and what it submits."""
    schedule = endpoints.get_schedule(schedule_id, platform, viewer)
    with platform.database.read() as session:
        runs = _list_runs(session, schedule, RUNS_SHOWN)
    return page(request, "schedule", viewer, schedule=schedule, runs=runs, local=show_local)


@router.post("/schedules/{schedule_id}/pause", dependencies=[SameOrigin])
def pause(schedule_id: str, platform: PlatformDep, viewer: Editor) -> Response:
    """Submit nothing more, until it is resumed."""
    endpoints.change_schedule(schedule_id, SchedulePatch(paused=True), platform, viewer)
    return back_to(f"/schedules/{schedule_id}")


@router.post("/schedules/{schedule_id}/resume", dependencies=[SameOrigin])
def resume(schedule_id: str, platform: PlatformDep, viewer: Editor) -> Response:
    """Go on with its next time."""
    endpoints.change_schedule(schedule_id, SchedulePatch(paused=False), platform, viewer)
    return back_to(f"/schedules/{schedule_id}")


@router.post("/schedules/{schedule_id}/run", dependencies=[SameOrigin])
def run(schedule_id: str, later: BackgroundTasks, platform: PlatformDep, viewer: Editor) -> Response:
    """Submit now, outside its times."""
    endpoints.run_schedule(schedule_id, Response(), later, platform, viewer, Once(platform, None, ""))
    return back_to(f"/schedules/{schedule_id}")


def show_local(moment: datetime, timezone: str) -> str:
    """`Mon 4 May 2026, 03:00` on the clocks of a zone: cron expressions are meant by those."""
    there = moment.astimezone(ZoneInfo(timezone))
    return f"{there:%a} {there.day} {there:%b %Y, %H:%M}"


def _list_runs(session: Session, schedule: SchedulePublic, limit: int) -> Sequence[Run]:
    """Its newest runs. One query for each, by its key: as many as a page has rows."""
    zone = ZoneInfo(schedule.timezone)
    return [
        Run(slot, _find_made(session, slot), show_local(datetime.fromtimestamp(slot.at, zone), schedule.timezone))
        for slot in list_slots(session, schedule.id, limit=limit)
    ]


def _find_made(session: Session, slot: ScheduleSlot) -> Job | Pipeline | None:
    if slot.job_id is not None:
        return session.get(Job, slot.job_id)
    return session.get(Pipeline, slot.pipeline_id) if slot.pipeline_id is not None else None
