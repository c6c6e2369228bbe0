"""Tables of workers and of the scheduler's leadership."""

from typing import Any

from sqlmodel import Field, SQLModel

from modelyard.domain.columns import json_field, time_field


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
    state: str
    """`online`, `draining` or `offline`."""
    started_at: float = time_field(nullable=False)
    heartbeat_at: float = time_field(nullable=False)


class Leadership(SQLModel, table=True):
    """Who may act for all, e.g. the one scheduler among several, until its lease runs out."""

    __tablename__ = "leadership"

    role: str = Field(primary_key=True)
    holder: str
    expires_at: float = time_field(nullable=False)
