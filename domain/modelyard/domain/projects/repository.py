"""Every query about projects, keys and remembered requests."""

import hashlib
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, delete, tuple_
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from modelyard.domain.errors import Conflict, IdempotencyMismatch, InvalidRequest, NotFound
from modelyard.domain.projects.tables import ApiKey, Project, RememberedRequest
from modelyard.kit.database import database_now
from modelyard.kit.identifiers import new_id, new_secret
from modelyard.kit.rows import insert_rows

DEFAULT_PROJECT = "default"
ALL_PROJECTS = "all"
"""Stands for every project where one may be named; so none has this name."""
SCOPES = ("read", "write", "admin")
REMEMBERED_DAYS = 7
"""How long an `Idempotency-Key` counts: far longer than any client tries again."""


class ProjectExists(Conflict):
    """There is a project of this name."""

    code = "project_exists"

    def __init__(self, name: str) -> None:
        way_out = f"change it (PATCH /v1/projects/{name}) or choose another name"
        super().__init__(f"There is a project {name!r} already; {way_out}", field="name", value=name)


@dataclass(frozen=True)
class Caller:
    """Who asks: a key, the project it is bound to, and what it may do."""

    key_id: str
    project_id: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Whether the key carries a scope; `admin` carries all."""
        return scope in self.scopes or "admin" in self.scopes


def get_or_create_project(session: Session, name: str = DEFAULT_PROJECT) -> Project:
    """The project of a name."""
    project = find_project(session, name)
    if project is None:
        project = Project(id=new_id("proj"), name=name, created_at=time.time())
        session.add(project)
        session.flush()
    return project


def find_project(session: Session, name: str) -> Project | None:
    """The project of a name, else of an id, if there is one."""
    return session.exec(select(Project).where(Project.name == name)).first() or session.get(Project, name)


def get_project_or_raise(session: Session, name: str) -> Project:
    """The project of a name or an id. Raises `NotFound`."""
    project = find_project(session, name)
    if project is None:
        message = f"There is no project {name!r}; GET /v1/projects lists them, POST /v1/projects makes one"
        raise NotFound(message, field="project", value=name)
    return project


def list_projects(session: Session, after: str | None = None, limit: int = 20) -> Sequence[Project]:
    """Oldest first; `after` is the id of the last row of the page before."""
    query = select(Project).order_by(col(Project.id)).limit(limit)
    return session.exec(query.where(Project.id > after) if after else query).all()


def create_project(session: Session, name: str, **values: Any) -> Project:
    """Make a project. Raises `ProjectExists`, and `InvalidRequest` for the name that stands for all of them."""
    if name == ALL_PROJECTS:
        message = f"name: {name!r} stands for all projects where usage is asked for; choose another name"
        raise InvalidRequest(message, field="name", value=name)
    project = Project(id=new_id("proj"), name=name, created_at=time.time(), **values)
    try:
        with session.begin_nested():
            session.add(project)
    except IntegrityError:
        raise ProjectExists(name) from None
    return project


def create_key(
    session: Session, project_id: str, name: str, scopes: tuple[str, ...] = SCOPES, secret: str | None = None
) -> tuple[ApiKey, str]:
    """Make an API key. The secret is returned once and stored only as its hash."""
    secret = secret or new_secret("my")
    key = ApiKey(
        id=new_id("key"),
        project_id=project_id,
        name=name,
        sha256=_hash(secret),
        hint=secret[:7],
        scopes=list(scopes),
        created_at=time.time(),
    )
    session.add(key)
    session.flush()
    return key, secret


def find_caller(session: Session, secret: str) -> Caller | None:
    """Whose key this is; None if it is unknown or revoked."""
    query = select(ApiKey).where(ApiKey.sha256 == _hash(secret), ApiKey.revoked_at == None)  # noqa: E711 - SQL IS NULL
    key = session.exec(query).first()
    return Caller(key.id, key.project_id, frozenset(key.scopes)) if key else None


def remembered_resource(session: Session, project_id: str, key: str, fingerprint: str) -> str | None:
    """The id this Idempotency-Key made before, if any. Raises `IdempotencyMismatch` for another body."""
    remembered = session.get(RememberedRequest, (project_id, key))
    if remembered is None:
        return None
    check_same_request(key, remembered.fingerprint, fingerprint)
    return remembered.resource_id


def check_same_request(key: str, remembered: str, fingerprint: str) -> None:
    """Raise `IdempotencyMismatch` unless an Idempotency-Key comes with the request it came with before."""
    if remembered != fingerprint:
        raise IdempotencyMismatch(
            f"Idempotency-Key {key!r} was already used with another request; use a new key for a new request",
            field="Idempotency-Key",
            value=key,
        )


def remembered_requests(session: Session, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, str]]:
    """(project, Idempotency-Key) -> (fingerprint, what it made), for those that were used before."""
    if not keys:
        return {}
    place = tuple_(col(RememberedRequest.project_id), col(RememberedRequest.key))
    query = select(RememberedRequest).where(place.in_(sorted(keys)))
    return {(row.project_id, row.key): (row.fingerprint, row.resource_id) for row in session.exec(query)}


def remember_all(session: Session, rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Remember requests: (project, Idempotency-Key, fingerprint, what it made)."""
    names, now = ("project_id", "key", "fingerprint", "resource_id"), time.time()
    insert_rows(session, RememberedRequest, [{**dict(zip(names, row, strict=True)), "created_at": now} for row in rows])


def remember(session: Session, project_id: str, key: str, fingerprint: str, resource_id: str) -> None:
    """Remember what a request made, in the transaction that makes it."""
    session.add(
        RememberedRequest(
            project_id=project_id, key=key, fingerprint=fingerprint, resource_id=resource_id, created_at=time.time()
        )
    )


def forget_requests(session: Session, older_than_days: float = REMEMBERED_DAYS) -> int:
    """Forget requests that nobody will repeat any more; return how many."""
    oldest = database_now() - older_than_days * 86_400
    result = cast(CursorResult[Any], session.execute(delete(RememberedRequest).where(col(RememberedRequest.created_at) < oldest)))
    return result.rowcount


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def list_keys(session: Session, project_id: str) -> Sequence[ApiKey]:
    """All keys of a project, oldest first."""
    return session.exec(select(ApiKey).where(ApiKey.project_id == project_id).order_by(col(ApiKey.id))).all()


def get_key_or_raise(session: Session, project_id: str, key_id: str) -> ApiKey:
    """A key of a project. Raises `NotFound`."""
    key = session.get(ApiKey, key_id)
    if key is None or key.project_id != project_id:
        raise NotFound(f"There is no key {key_id} in this project; GET /v1/keys lists them", field="key_id", value=key_id)
    return key
