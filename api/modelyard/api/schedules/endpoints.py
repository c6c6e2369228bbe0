"""Routes of schedules."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Query, Response
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from modelyard.api.dependencies import OnceDep, PageDep, PlatformDep, Reader, Writer
from modelyard.api.jobs.service import ring_or_leave
from modelyard.api.pages import PageOf, make_page
from modelyard.api.schedules.schemas import RunPublic, ScheduleCreate, SchedulePatch, SchedulePublic
from modelyard.domain.jobs.repository import find_job
from modelyard.domain.jobs.tables import Job
from modelyard.domain.pipelines.repository import list_steps
from modelyard.domain.schedules import repository, service
from modelyard.domain.schedules.slots import upcoming
from modelyard.domain.schedules.tables import Schedule, ScheduleSlot
from modelyard.kit.database import read_clock

router = APIRouter(prefix="/v1/schedules", tags=["schedules"])
SHOWN_TIMES = 5


@router.post("", status_code=201)
def create_schedule(
    body: ScheduleCreate, response: Response, platform: PlatformDep, caller: Writer, once: OnceDep
) -> SchedulePublic:
    """Make a schedule. Its body is checked as if it were submitted now, and again at each of its times."""

    def make(session: Session) -> str:
        return service.create_schedule(session, caller.project_id, body.to_request()).id

    try:
        id_, _ = once.create(caller, make)
    except IntegrityError as error:
        raise service.NameTaken(body.name) from error
    response.headers["Location"] = f"/v1/schedules/{id_}"
    with platform.database.read() as session:
        return _show(session, repository.get_schedule_or_raise(session, caller.project_id, id_))


@router.get("")
def list_schedules(platform: PlatformDep, caller: Reader, page: PageDep) -> PageOf[SchedulePublic]:
    """List schedules, newest first."""
    with platform.database.read() as session:
        rows = repository.list_schedules(session, caller.project_id, page.after, page.limit + 1)
        return make_page(rows, page.limit, lambda row: _show(session, row))


@router.get("/{schedule_id}")
def get_schedule(schedule_id: str, platform: PlatformDep, caller: Reader) -> SchedulePublic:
    """One schedule by id or name, with its next times."""
    with platform.database.read() as session:
        return _show(session, repository.get_schedule_or_raise(session, caller.project_id, schedule_id))


@router.patch("/{schedule_id}")
def change_schedule(schedule_id: str, body: SchedulePatch, platform: PlatformDep, caller: Writer) -> SchedulePublic:
    """Change, pause or resume a schedule. Times that pass while it is paused are not caught up."""
    try:
        with platform.database.write() as session:
            schedule = repository.get_schedule_or_raise(session, caller.project_id, schedule_id, for_update=True)
            service.change_schedule(session, schedule, body.to_changes())
            session.flush()
            return _show(session, schedule)
    except IntegrityError as error:  # somebody took the name at this moment
        raise service.NameTaken(str(body.name)) from error


@router.delete("/{schedule_id}", status_code=204)
def delete_schedule(schedule_id: str, platform: PlatformDep, caller: Writer) -> None:
    """Forget a schedule; what it submitted stays."""
    with platform.database.write() as session:
        schedule = repository.get_schedule_or_raise(session, caller.project_id, schedule_id, for_update=True)
        repository.delete_schedule(session, schedule)


@router.get("/{schedule_id}/runs")
def list_runs(
    schedule_id: str,
    platform: PlatformDep,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most")] = 20,
    after: Annotated[float | None, Query(description="`next` of the page before", allow_inf_nan=False)] = None,
) -> PageOf[RunPublic]:
    """What became of its times, newest first."""
    with platform.database.read() as session:
        schedule = repository.get_schedule_or_raise(session, caller.project_id, schedule_id)
        rows = repository.list_slots(session, schedule.id, after, limit + 1)
    shown, has_more = rows[:limit], len(rows) > limit
    next_ = repr(shown[-1].at) if has_more else None
    return PageOf(data=[RunPublic.model_validate(row) for row in shown], has_more=has_more, next=next_)


@router.post("/{schedule_id}/run", status_code=202)
def run_schedule(
    schedule_id: str, response: Response, later: BackgroundTasks, platform: PlatformDep, caller: Writer, once: OnceDep
) -> RunPublic:
    """Submit now, outside its times; works for a paused schedule too."""

    def make(session: Session) -> str:
        schedule = repository.get_schedule_or_raise(session, caller.project_id, schedule_id, for_update=True)
        return repr(service.run_now(session, schedule).at)

    at, is_new = once.create(caller, make)
    with platform.database.read() as session:
        schedule = repository.get_schedule_or_raise(session, caller.project_id, schedule_id)
        slot = session.get_one(ScheduleSlot, (schedule.id, float(at)))
        jobs = _list_jobs(session, slot)
    if is_new:
        later.add_task(ring_or_leave, platform, jobs)
    response.headers["Location"] = f"/v1/jobs/{slot.job_id}" if slot.job_id else f"/v1/pipelines/{slot.pipeline_id}"
    return RunPublic.model_validate(slot)


def _list_jobs(session: Session, slot: ScheduleSlot) -> list[Job]:
    if slot.pipeline_id is not None:
        return list(list_steps(session, slot.pipeline_id))
    job = find_job(session, str(slot.job_id))
    return [job] if job is not None else []


def _show(session: Session, schedule: Schedule) -> SchedulePublic:
    times = [] if schedule.paused else upcoming(schedule.cron, schedule.timezone, read_clock(session), SHOWN_TIMES)
    return SchedulePublic.model_validate({**schedule.model_dump(), "next": times})
