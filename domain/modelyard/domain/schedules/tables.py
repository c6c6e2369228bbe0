"""Tables of schedules and of the slots they have filled."""

from typing import Any

from sqlalchemy import Double, UniqueConstraint
from sqlmodel import Field, SQLModel

from modelyard.domain.columns import json_field, text_field, time_field
from modelyard.domain.projects.tables import PROJECT_ID


class Schedule(SQLModel, table=True):
    """A cron expression and what to submit at each of its times."""

    __tablename__ = "schedule"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key=PROJECT_ID, index=True)
    name: str
    cron: str
    timezone: str = "UTC"
    job: dict[str, Any] | None = json_field(lambda: None)
    """The body of `POST /v1/jobs`, or None for a pipeline."""
    pipeline: dict[str, Any] | None = json_field(lambda: None)
    """The body of `POST /v1/pipelines`, or None for a job."""
    paused: bool = False
    overlap: bool = False
    """Whether a new run starts while the one before is not finished."""
    next_at: float | None = time_field(index=True)
    failures: int = 0
    """How often in a row its due time could not be filled for a reason nobody foresaw."""
    problem: str | None = text_field(default=None)  # type: ignore[arg-type]
    """The last of those reasons."""
    try_at: float | None = time_field()
    """Not before this is it tried again."""
    created_at: float = time_field(nullable=False)


class ScheduleSlot(SQLModel, table=True):
    """One time of one schedule. Its primary key makes sure that it is filled once, however many schedulers tick."""

    __tablename__ = "schedule_slot"

    schedule_id: str = Field(primary_key=True, foreign_key="schedule.id")
    at: float = Field(primary_key=True, sa_type=Double)
    job_id: str | None = None
    pipeline_id: str | None = None
    message: str | None = text_field(default=None)  # type: ignore[arg-type]
    """Why nothing was submitted, e.g. because the run before was still going."""
    made_at: float = time_field(nullable=False)
