"""Tables of the ledger."""

from sqlalchemy import Double, Index, text
from sqlmodel import Field, SQLModel

from modelyard.domain.columns import time_field
from modelyard.domain.jobs.tables import JOB_ID
from modelyard.domain.projects.tables import PROJECT_ID

LARGEST_FIRST = "(starting + useful + redone + idle + failed) DESC"
FIRST, RETRIED = text("attempt = 1"), text("attempt > 1")


class UsageEntry(SQLModel, table=True):
    """What one finished attempt used, in slot-seconds (slots × seconds); a slot is a GPU, or a CPU share."""

    __tablename__ = "usage_entry"
    __table_args__ = (
        Index("ix_usage_project", "project_id", "finished_at"),
        Index("ix_usage_job", "job_id", "attempt"),
        Index("ix_usage_size", "project_id", text(LARGEST_FIRST), "job_id", "attempt", "finished_at"),
        Index("ix_usage_retried", "project_id", "finished_at", "job_id", sqlite_where=RETRIED, postgresql_where=RETRIED),
    )

    attempt_id: str = Field(primary_key=True, foreign_key="attempt.id")
    project_id: str = Field(foreign_key=PROJECT_ID)
    job_id: str = Field(foreign_key=JOB_ID)
    attempt: int
    accelerator: str
    slots: int
    started_at: float = time_field(nullable=False)
    finished_at: float = time_field(nullable=False)
    waiting_seconds: float = Field(default=0.0, sa_type=Double)
    """Seconds in the queue before it started; no slot was held, so these count in no sum of slot-seconds."""
    starting: float = Field(default=0.0, sa_type=Double)
    """From the claim to the first step: loading, compiling, meeting."""
    useful: float = Field(default=0.0, sa_type=Double)
    """Work that was kept."""
    redone: float = Field(default=0.0, sa_type=Double)
    """Work after the last checkpoint, done again by a later attempt, or by the same one that went back behind it."""
    idle: float = Field(default=0.0, sa_type=Double)
    """Slots held and nothing done: saving to leave, storing results, hanging."""
    failed: float = Field(default=0.0, sa_type=Double)
    """Work of an attempt after which the job failed or was cancelled with nothing kept."""


class UsageDay(SQLModel, table=True):
    """Entries added up: those of attempts that ended on one day (UTC). What is asked of months need not read them one by one."""

    __tablename__ = "usage_day"

    project_id: str = Field(primary_key=True, foreign_key=PROJECT_ID)
    day: int = Field(primary_key=True)
    """Days since the epoch."""
    kind: str = Field(primary_key=True)
    accelerator: str = Field(primary_key=True)
    attempts: int = 0
    waiting_seconds: float = Field(default=0.0, sa_type=Double)
    starting: float = Field(default=0.0, sa_type=Double)
    useful: float = Field(default=0.0, sa_type=Double)
    redone: float = Field(default=0.0, sa_type=Double)
    idle: float = Field(default=0.0, sa_type=Double)
    failed: float = Field(default=0.0, sa_type=Double)
    before_month: float = Field(default=0.0, sa_type=Double)
    """Slot-seconds of these attempts before the month of this day began."""
