"""Every query about schedules and their slots."""

from collections.abc import Sequence

from sqlalchemy import delete
from sqlmodel import Session, col, select

from modelyard.domain.errors import NotFound
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.tables import Job
from modelyard.domain.pipelines.tables import Pipeline
from modelyard.domain.schedules.tables import Schedule, ScheduleSlot
from modelyard.kit.database import database_now


def get_schedule_or_raise(session: Session, project_id: str, reference: str, for_update: bool = False) -> Schedule:
    """A schedule of a project by id or name. Raises `NotFound`."""
    query = select(Schedule).where(Schedule.project_id == project_id)
    query = query.where((col(Schedule.id) == reference) | (col(Schedule.name) == reference))
    query = query.order_by((col(Schedule.id) == reference).desc())  # a name may look like another one's id
    schedule = session.exec(query.with_for_update() if for_update else query).first()
    if schedule is None:
        message = f"There is no schedule {reference} in this project; GET /v1/schedules lists them"
        raise NotFound(message, field="schedule_id", value=reference)
    return schedule


def list_schedules(session: Session, project_id: str, after: str | None = None, limit: int = 20) -> Sequence[Schedule]:
    """Newest first; `after` is the id of the last row of the page before."""
    query = select(Schedule).where(Schedule.project_id == project_id).order_by(col(Schedule.id).desc()).limit(limit)
    return session.exec(query.where(Schedule.id < after) if after else query).all()


def is_name_taken(session: Session, project_id: str, name: str) -> bool:
    """Whether a project has a schedule of that name."""
    return session.exec(select(Schedule.id).where(Schedule.project_id == project_id, Schedule.name == name)).first() is not None


def list_due(session: Session) -> Sequence[str]:
    """Ids of schedules one of whose times has come, the longest waiting first; not those that failed a moment ago."""
    query = select(Schedule.id).where(col(Schedule.paused).is_(False), col(Schedule.next_at) <= database_now())
    query = query.where(col(Schedule.try_at).is_(None) | (col(Schedule.try_at) <= database_now()))
    return session.exec(query.order_by(col(Schedule.next_at))).all()


def list_slots(session: Session, schedule_id: str, before: float | None = None, limit: int = 20) -> Sequence[ScheduleSlot]:
    """Newest first; `before`: only those of earlier times."""
    query = select(ScheduleSlot).where(ScheduleSlot.schedule_id == schedule_id)
    if before is not None:
        query = query.where(ScheduleSlot.at < before)
    return session.exec(query.order_by(col(ScheduleSlot.at).desc()).limit(limit)).all()


def find_unfinished_run(session: Session, schedule_id: str) -> Job | Pipeline | None:
    """What the newest slot that submitted something submitted, if it is still going."""
    made = col(ScheduleSlot.job_id).is_not(None) | col(ScheduleSlot.pipeline_id).is_not(None)
    query = select(ScheduleSlot).where(ScheduleSlot.schedule_id == schedule_id, made).order_by(col(ScheduleSlot.at).desc())
    slot = session.exec(query.limit(1)).first()
    if slot is None:
        return None
    if slot.pipeline_id is not None:
        pipeline = session.get(Pipeline, slot.pipeline_id)
        return pipeline if pipeline is not None and pipeline.state == "running" else None
    job = session.get(Job, slot.job_id)
    return job if job is not None and not JobState(job.state).is_finished() else None


def delete_schedule(session: Session, schedule: Schedule) -> None:
    """Forget a schedule and its slots; what they submitted stays."""
    session.execute(delete(ScheduleSlot).where(col(ScheduleSlot.schedule_id) == schedule.id))
    session.delete(schedule)
