"""Tables of sweeps and their trials. They are the whole memory of a search: whoever decides reads them anew each time."""

from typing import Any

from sqlalchemy import Double, Index, text
from sqlmodel import Field, SQLModel

from modelyard.domain.columns import json_field, text_field, time_field
from modelyard.domain.jobs.tables import JOB_ID
from modelyard.domain.projects.tables import PROJECT_ID

UNFINISHED = text("finished_at IS NULL")


class Sweep(SQLModel, table=True):
    """A job to try with many parameters, and how to choose among them."""

    __tablename__ = "sweep"
    __table_args__ = (
        Index("ix_sweep_project", "project_id", "id"),
        Index("ix_sweep_open", "id", sqlite_where=UNFINISHED, postgresql_where=UNFINISHED),
    )

    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key=PROJECT_ID)
    name: str
    job: dict[str, Any] = json_field()
    """The body of `POST /v1/jobs` all trials share."""
    parameters: dict[str, Any] = json_field()
    """Place in the body, e.g. `spec.optimizer.learning_rate` -> its range."""
    metric: str
    direction: str
    sampler: str
    trials: int
    """Trials made at most."""
    parallel: int
    """Trials that run or wait in their queue at once."""
    pruning: dict[str, Any] | None = json_field(lambda: None)
    max_gpu_hours: float | None = Field(default=None, sa_type=Double)
    promote: str | None = None
    """Name under which the best trial's output is registered."""
    seed: int = 0
    inputs: dict[str, Any] = json_field()
    """Place in the spec -> what it named when the sweep was made: all trials get the same, whatever comes out meanwhile."""

    state: str
    message: str | None = text_field(default=None)  # type: ignore[arg-type]
    revision: int = 0
    """Raised by every decision: one made on older facts changes nothing."""
    best: int | None = None
    """Number of the best trial so far."""
    promoted: dict[str, Any] | None = json_field(lambda: None)
    """What was registered under `promote`: `{"type", "id", "name", "version"}`."""
    created_at: float = time_field(nullable=False)
    finished_at: float | None = time_field()


class Trial(SQLModel, table=True):
    """One choice of parameters. Its primary key makes sure that each number is given out once, however many schedulers tick."""

    __tablename__ = "trial"

    sweep_id: str = Field(primary_key=True, foreign_key="sweep.id")
    number: int = Field(primary_key=True)
    """From 0."""
    job_id: str | None = Field(default=None, foreign_key=JOB_ID, index=True)
    """None where the job was refused."""
    parameters: dict[str, Any] = json_field()
    state: str
    results: dict[str, Any] = json_field()
    """Step -> the metric there; null for NaN and infinity."""
    message: str | None = text_field(default=None)  # type: ignore[arg-type]
    created_at: float = time_field(nullable=False)
    finished_at: float | None = time_field()
