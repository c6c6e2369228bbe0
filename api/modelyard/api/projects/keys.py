"""Routes of API keys; only for keys with the scope `admin`."""

import time
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session

from modelyard.api.dependencies import Admin, OnceDep, PlatformDep
from modelyard.api.errors import ApiError
from modelyard.api.times import Time
from modelyard.domain.errors import UnknownReference
from modelyard.domain.projects import repository
from modelyard.domain.projects.repository import Caller
from modelyard.kit.documented import Documented

router = APIRouter(prefix="/v1/keys", tags=["keys"])


class KeyCreate(Documented):
    """A key to make."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "nightly", "scopes": ["read", "write"], "project": "default"}]},
    )

    name: Annotated[str, Field(min_length=1, max_length=100)]
    scopes: list[Literal["read", "write", "admin"]] = Field(default=["read", "write"], min_length=1)
    project: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """Name or id of the project it is bound to; the caller's own if left out."""


class KeyPublic(BaseModel):
    """A key without its secret."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    project_id: str
    name: str
    hint: str
    scopes: list[str]
    created_at: Time
    revoked_at: Time | None


class KeyMade(KeyPublic):
    """A key with its secret, shown this once."""

    key: str


class KeyList(BaseModel):
    """All keys of a project."""

    data: list[KeyPublic]


@router.post("", status_code=201)
def create_key(body: KeyCreate, platform: PlatformDep, caller: Admin, once: OnceDep) -> KeyMade:
    """Make a key. The secret is in this answer and nowhere else: a repeated `Idempotency-Key` is answered with 409."""
    made: list[KeyMade] = []

    def make(session: Session) -> str:
        row, secret = repository.create_key(session, _find_owner(session, caller, body.project), body.name, tuple(body.scopes))
        made.append(KeyMade(**KeyPublic.model_validate(row).model_dump(), key=secret))
        return row.id

    id_, is_new = once.create(caller, make)
    if not is_new:
        message = (
            f"Idempotency-Key {once.key!r} already made {id_}, whose secret was shown once and is not kept. "
            f"If it did not arrive: DELETE /v1/keys/{id_} and make a key under a new Idempotency-Key"
        )
        raise ApiError(409, "secret_already_shown", message, field="Idempotency-Key", value=once.key)
    return made[-1]


def _find_owner(session: Session, caller: Caller, project: str | None) -> str:
    if project is None:
        return caller.project_id
    row = repository.find_project(session, project)
    if row is None:
        message = f"There is no project {project!r}; GET /v1/projects lists them, POST /v1/projects makes one"
        raise UnknownReference(message, field="project", value=project)
    return row.id


@router.get("")
def list_keys(platform: PlatformDep, caller: Admin) -> KeyList:
    """All keys of the project, without secrets."""
    with platform.database.read() as session:
        rows = repository.list_keys(session, caller.project_id)
        return KeyList(data=[KeyPublic.model_validate(row) for row in rows])


@router.delete("/{key_id}", status_code=204)
def revoke_key(key_id: str, platform: PlatformDep, caller: Admin) -> None:
    """Revoke a key at once."""
    if key_id == caller.key_id:
        raise ApiError(409, "own_key", "A key cannot revoke itself; use another admin key", field="key_id", value=key_id)
    with platform.database.write() as session:
        row = repository.get_key_or_raise(session, caller.project_id, key_id)
        row.revoked_at = time.time()
        session.add(row)
    platform.callers.forget()
