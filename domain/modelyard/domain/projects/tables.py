"""Tables of projects, API keys and remembered requests."""

from sqlmodel import Field, SQLModel

from modelyard.domain.columns import json_field, time_field

PROJECT_ID = "project.id"
"""Foreign keys are imported, so that a table never comes without those it refers to."""


class Project(SQLModel, table=True):
    """The owner of jobs and of what they made."""

    __tablename__ = "project"

    id: str = Field(primary_key=True)
    name: str = Field(unique=True)
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
