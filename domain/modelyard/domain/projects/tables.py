"""Tables of projects, API keys and remembered requests."""

from sqlalchemy import Double
from sqlmodel import Field, SQLModel

from modelyard.domain.columns import json_field, time_field

PROJECT_ID = "project.id"
"""Foreign keys are imported, so that a table never comes without those it refers to."""


class Project(SQLModel, table=True):
    """The owner of jobs and of what they made."""

    __tablename__ = "project"

    id: str = Field(primary_key=True)
    name: str = Field(unique=True)
    share: float = Field(default=1.0, sa_type=Double)
    """Weight in fair share: twice the share, twice the slots while projects compete."""
    max_gpus: int | None = None
    """Quota: slots in use at once. A slot is a GPU, or a CPU share where a job runs on those."""
    max_queued_jobs: int | None = None
    """Quota: jobs that may wait; more are refused."""
    max_gpu_hours_per_month: float | None = Field(default=None, sa_type=Double)
    """Quota: slots × hours in a calendar month, UTC."""
    recent_gpu_seconds: float = Field(default=0.0, sa_type=Double)
    """Slot-seconds used, halved every half-life; as of `recent_at`."""
    recent_at: float = Field(default=0.0, sa_type=Double)
    created_at: float = time_field(nullable=False)


class ApiKey(SQLModel, table=True):
    """A key as SHA-256: its 256 bits of entropy need no slow hash."""

    __tablename__ = "api_key"

    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key=PROJECT_ID, index=True)
    name: str
    sha256: str = Field(unique=True)
    hint: str
    """The first characters, to tell keys apart."""
    scopes: list[str] = json_field(list)
    """`read`, `write`, `admin`."""
    created_at: float = time_field(nullable=False)
    revoked_at: float | None = time_field()


class RememberedRequest(SQLModel, table=True):
    """What an `Idempotency-Key` once made, so that the same request makes it only once."""

    __tablename__ = "remembered_request"

    project_id: str = Field(primary_key=True, foreign_key=PROJECT_ID)
    key: str = Field(primary_key=True)
    fingerprint: str
    """SHA-256 of method, path and body."""
    resource_id: str
    created_at: float = time_field(nullable=False)
