"""Making schedules, changing them, and filling their slots."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from modelyard.domain.errors import Conflict, DomainError
from modelyard.domain.pipelines.tables import Pipeline
from modelyard.domain.schedules.repository import find_unfinished_run, is_name_taken
from modelyard.domain.schedules.slots import CATCH_UP_SECONDS, Due, check_timing, choose, upcoming, wait_after
from modelyard.domain.schedules.submission import Body, check_body, submit_body
from modelyard.domain.schedules.tables import Schedule, ScheduleSlot
from modelyard.kit.database import read_clock
from modelyard.kit.identifiers import new_id


@dataclass(frozen=True)
class ScheduleRequest:
    """What a user asks for. One of `job` and `pipeline` is given."""

    name: str
    cron: str
    timezone: str = "UTC"
    job: Body | None = None
    pipeline: Body | None = None
    overlap: bool = False
    paused: bool = False


class NameTaken(Conflict):
    """The project has a schedule of that name."""

    code = "schedule_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is a schedule named {name!r} already; change that one or choose another name", field="name")
        self.value = name


class RunStillGoing(Conflict):
    """The schedule does not let its runs overlap."""

    code = "run_still_going"

    def __init__(self, schedule: Schedule, run_id: str) -> None:
        super().__init__(
            f"The run before, {run_id}, is not finished, and schedule {schedule.name} has `overlap: false`; "
            "wait for it, cancel it, or set `overlap: true`",
            field="schedule_id",
            value=schedule.id,
        )


def create_schedule(session: Session, project_id: str, request: ScheduleRequest) -> Schedule:
    """Make a schedule whose timing and body have been tried. Raises `NameTaken`, and what a submission raises."""
    check_timing(request.cron, request.timezone)
    if is_name_taken(session, project_id, request.name):
        raise NameTaken(request.name)
    check_body(session, project_id, request.job, request.pipeline)
    schedule = Schedule(id=new_id("sched"), project_id=project_id, created_at=read_clock(session), **vars(request))
    _set_next(session, schedule)
    return schedule


def change_schedule(session: Session, schedule: Schedule, changes: Mapping[str, Any]) -> None:
    """Change some fields of a locked schedule; times that passed while it was paused are not caught up."""
    if changes.get("name", schedule.name) != schedule.name and is_name_taken(session, schedule.project_id, changes["name"]):
        raise NameTaken(changes["name"])
    schedule.sqlmodel_update(dict(changes))
    _forget_failures(schedule)
    check_timing(schedule.cron, schedule.timezone)
    if "job" in changes or "pipeline" in changes:
        check_body(session, schedule.project_id, schedule.job, schedule.pipeline)
    if changes.keys() & {"cron", "timezone", "paused"}:
        _set_next(session, schedule)
    session.add(schedule)


def _set_next(session: Session, schedule: Schedule) -> None:
    times = upcoming(schedule.cron, schedule.timezone, read_clock(session), 1)
    schedule.next_at = times[0] if times else None
    session.add(schedule)
    session.flush()


def run_now(session: Session, schedule: Schedule) -> ScheduleSlot:
    """Submit outside the times of a locked schedule. Raises `RunStillGoing`, and what a submission raises."""
    now = read_clock(session)
    before = find_unfinished_run(session, schedule.id)
    if before is not None and not schedule.overlap:
        raise RunStillGoing(schedule, before.id)
    run = submit_body(session, schedule.project_id, schedule.job, schedule.pipeline)
    slot = ScheduleSlot(schedule_id=schedule.id, at=now, made_at=now, message="Run by hand", **vars(run))
    session.add(slot)
    return slot


def fill_slot(session: Session, schedule_id: str) -> ScheduleSlot | None:
    """Fill the newest slot that has come; None if somebody else did, or there is nothing to fill.

    The slot's row comes first, and with it in one transaction what it submits: of several schedulers that come here at
    the same moment one writes the row, the others' transactions end with an `IntegrityError` before they made anything.
    """
    schedule = session.get(Schedule, schedule_id, with_for_update=True)
    now = read_clock(session)
    if schedule is None or schedule.paused or schedule.next_at is None or schedule.next_at > now:
        return None
    if schedule.try_at is not None and schedule.try_at > now:
        return None
    due = choose(schedule.cron, schedule.timezone, schedule.next_at, now)
    schedule.next_at = due.next_at
    _forget_failures(schedule)
    session.add(schedule)
    if session.get(ScheduleSlot, (schedule_id, due.at)) is not None:
        return None  # the database's clock was set back
    slot = ScheduleSlot(schedule_id=schedule_id, at=due.at, made_at=now)
    session.add(slot)
    session.flush()
    _run(session, schedule, slot, due)
    return slot


def note_failure(session: Session, schedule_id: str, problem: str) -> float | None:
    """Say in a schedule's row why its due time could not be filled. Returns the seconds until it is tried again.

    None if somebody else did at this moment, or the schedule is gone: two schedulers that fail together count once.
    """
    schedule = session.get(Schedule, schedule_id, with_for_update=True)
    now = read_clock(session)
    if schedule is None or (schedule.try_at is not None and schedule.try_at > now):
        return None
    schedule.failures, schedule.problem = schedule.failures + 1, problem
    wait_seconds = wait_after(schedule.failures)
    schedule.try_at = now + wait_seconds
    session.add(schedule)
    return wait_seconds


def _forget_failures(schedule: Schedule) -> None:
    schedule.failures, schedule.problem, schedule.try_at = 0, None, None


def _run(session: Session, schedule: Schedule, slot: ScheduleSlot, due: Due) -> None:
    notes = [_say_skipped(due)] if due.skipped else []
    before = find_unfinished_run(session, schedule.id)
    if due.is_too_late:
        notes.append(f"Left out: the time had passed by more than {CATCH_UP_SECONDS / 3600:g} h when a scheduler came")
    elif before is not None and not schedule.overlap:
        what = "pipeline" if isinstance(before, Pipeline) else "job"
        notes.append(f"Left out: the run before, {what} {before.id}, is {before.state}, and `overlap` is false")
    else:
        try:
            with session.begin_nested():
                run = submit_body(session, schedule.project_id, schedule.job, schedule.pipeline)
            slot.job_id, slot.pipeline_id = run.job_id, run.pipeline_id
        except DomainError as error:
            notes.append(f"Refused: {error}")
    slot.message = ". ".join(notes) or None
    session.add(slot)


def _say_skipped(due: Due) -> str:
    return f"Skipped {due.skipped} earlier time{'s' if due.skipped > 1 else ''}: no scheduler was running"
