"""Tables of workers and of the scheduler's leadership."""

from typing import Any

from sqlalchemy import BigInteger, Index
from sqlmodel import Field, SQLModel

from modelyard.domain.columns import json_field, serial_field, text_field, time_field


class Worker(SQLModel, table=True):
    """One Celery process on a machine, and what it lends."""

    __tablename__ = "worker"

    id: str = Field(primary_key=True)
    """Its name, unique among living workers, e.g. `train@host`."""
    host: str
    pid: int
    stages: list[str] = json_field(list)
    slots: dict[str, Any] = json_field()
    """`{"cpu": {"total", "free"}, "gpu": {"total", "free"}}` at the last heartbeat."""
    queues: list[str] = json_field(list)
    host_memory_bytes: int | None = Field(default=None, sa_type=BigInteger)
    """Memory of its machine, shared by all that runs there; None if it did not say."""
    gpu_memory_bytes: int | None = Field(default=None, sa_type=BigInteger)
    """Memory of the smallest GPU it lends; None without one."""
    state: str
    """`online`, `draining` or `offline`."""
    drain_requested: bool = False
    """Somebody asked it to take no more jobs and hand over those it runs; set and cleared from outside."""
    started_at: float = time_field(nullable=False)
    heartbeat_at: float = time_field(nullable=False)


class Host(SQLModel, table=True):
    """A machine, and whether jobs keep away from it."""

    __tablename__ = "host"

    name: str = Field(primary_key=True)
    excluded_at: float | None = time_field()
    """When the exclusion began; the next one within a day lasts longer."""
    excluded_until: float | None = time_field()
    """No job starts there before this."""
    excluded_because: str | None = text_field(default=None)  # type: ignore[arg-type]


class Strike(SQLModel, table=True):
    """An attempt that ended as if its machine were to blame."""

    __tablename__ = "strike"
    __table_args__ = (Index("ix_strike_host", "host", "at"),)

    id: int | None = serial_field()
    host: str
    job_id: str
    attempt: int
    outcome: str
    at: float = time_field(nullable=False)


class Reservation(SQLModel, table=True):
    """Slots of a worker kept free for one job that waited too long, or that preempted another."""

    __tablename__ = "reservation"

    worker_id: str = Field(primary_key=True)
    job_id: str = Field(primary_key=True, foreign_key="job.id")
    slots: int
    accelerator: str
    expires_at: float = time_field(nullable=False)
    """Made again while it is needed, so a scheduler that is gone keeps nothing reserved."""


class Leadership(SQLModel, table=True):
    """Who may act for all, e.g. the one scheduler among several, until its lease runs out."""

    __tablename__ = "leadership"

    role: str = Field(primary_key=True)
    holder: str
    expires_at: float = time_field(nullable=False)
