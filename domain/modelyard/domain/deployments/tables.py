"""Tables of deployments and interactions."""

from typing import Any

from sqlalchemy import Double, Index
from sqlmodel import Field, SQLModel

from modelyard.domain.columns import json_field, text_field, time_field
from modelyard.domain.jobs.tables import JOB_ID
from modelyard.domain.projects.tables import PROJECT_ID

DEPLOYMENT_ID = "deployment.id"


class Deployment(SQLModel, table=True):
    """A model under a name that clients call. The newest ready one of a name answers."""

    __tablename__ = "deployment"
    __table_args__ = (Index("ix_deployment_name", "project_id", "name", "state"),)

    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key=PROJECT_ID)
    name: str
    model_id: str
    job_id: str = Field(foreign_key=JOB_ID, unique=True)
    state: str
    """`starting`, `ready` or `stopped`."""
    attempt: int
    url: str | None = None
    token: str
    """What the API shows the model server; made anew for each attempt, never given out."""
    created_at: float = time_field(nullable=False)
    ready_at: float | None = time_field()
    stopped_at: float | None = time_field()


class Interaction(SQLModel, table=True):
    """One request a deployment answered."""

    __tablename__ = "interaction"
    __table_args__ = (Index("ix_interaction_deployment", "deployment_id", "id"),)

    id: str = Field(primary_key=True)
    deployment_id: str = Field(foreign_key=DEPLOYMENT_ID)
    messages: list[Any] = json_field(list)
    answer: str = text_field()
    status: int
    """HTTP status."""
    streamed: bool = False
    latency_seconds: float = Field(sa_type=Double)
    time_to_first_token_seconds: float | None = Field(default=None, sa_type=Double)
    """Only known when streamed."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    created_at: float = time_field(nullable=False, index=True)
