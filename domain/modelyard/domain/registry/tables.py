"""Tables of what jobs make. All share the same columns: a name, a version, an immutable artifact, and where it came from."""

from typing import Any

from sqlalchemy import BigInteger, UniqueConstraint
from sqlmodel import Field, SQLModel

from modelyard.domain.columns import json_field, time_field
from modelyard.domain.projects.tables import PROJECT_ID


class Registered(SQLModel):
    """One version of a named thing. The same name with the same content is the same version."""

    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key=PROJECT_ID)
    name: str
    version: int
    artifact_key: str
    sha256: str
    bytes: int = Field(sa_type=BigInteger)
    job_id: str | None = Field(default=None, index=True)
    """The job that made it; None for an upload."""
    attempt: int | None = None
    details: dict[str, Any] = json_field()
    """What the recipe says of it: rows, parameters, scores, …"""
    created_at: float = time_field(nullable=False)


class Dataset(Registered, table=True):
    """Rows to train or evaluate on: an upload, or the prepared, split version of one."""

    __tablename__ = "dataset"
    __table_args__ = (UniqueConstraint("project_id", "name", "version"),)


class Model(Registered, table=True):
    """Safetensors weights with tokenizer, or a LoRA adapter (`details.role` says which)."""

    __tablename__ = "model"
    __table_args__ = (UniqueConstraint("project_id", "name", "version"),)


class Prompt(Registered, table=True):
    """A prompt template that won a comparison."""

    __tablename__ = "prompt"
    __table_args__ = (UniqueConstraint("project_id", "name", "version"),)


class Evaluation(Registered, table=True):
    """A comparison of two models; `details.gate_passed` is its decision."""

    __tablename__ = "evaluation"
    __table_args__ = (UniqueConstraint("project_id", "name", "version"),)


class MonitorReport(Registered, table=True):
    """What a deployment did in a window of requests."""

    __tablename__ = "monitor_report"
    __table_args__ = (UniqueConstraint("project_id", "name", "version"),)


TABLES: dict[str, type[Registered]] = {
    "dataset": Dataset,
    "model": Model,
    "prompt": Prompt,
    "evaluation": Evaluation,
    "monitor_report": MonitorReport,
}
"""Type of thing, as specs and recipes call it -> its table."""

ID_PREFIXES = {"dataset": "ds", "model": "mdl", "prompt": "pmt", "evaluation": "evl", "monitor_report": "mon"}
