"""Every query about registered things: find by reference, list, register a new version."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import false, func
from sqlmodel import Session, select

from modelyard.domain.errors import NotFound
from modelyard.domain.projects.tables import Project
from modelyard.domain.registry.tables import ID_PREFIXES, TABLES, Registered
from modelyard.kit.identifiers import new_id

_VERSION = re.compile(r"[0-9]{1,9}")
"""What fits into the column."""


def find(session: Session, project_id: str, type_: str, reference: str) -> Registered | None:
    """What `name`, `name@version` or an id means in a project; a bare name is its newest version."""
    table: Any = TABLES[type_]
    mine = select(table).where(table.project_id == project_id)
    if reference.startswith(f"{ID_PREFIXES[type_]}_"):
        by_id: Registered | None = session.exec(mine.where(table.id == reference)).first()
        if by_id is not None:  # a name may begin like an id
            return by_id
    name, at, version = reference.partition("@")
    query = mine.where(table.name == name).order_by(table.version.desc())
    if at:
        query = query.where(table.version == int(version)) if _VERSION.fullmatch(version) else query.where(false())
    found: Registered | None = session.exec(query).first()
    return found


def get_or_raise(session: Session, project_id: str, type_: str, reference: str) -> Registered:
    """Like `find`, but raises `NotFound`."""
    found = find(session, project_id, type_, reference)
    if found is None:
        message = f"There is no {type_} {reference!r} in this project; GET /v1/{type_}s lists them"
        raise NotFound(message, field="id", value=reference)
    return found


def list_registered(
    session: Session, project_id: str, type_: str, *, name: str | None = None, after: str | None = None, limit: int = 20
) -> Sequence[Registered]:
    """Newest first; `after` is the id of the last row of the page before."""
    table: Any = TABLES[type_]
    query = select(table).where(table.project_id == project_id).order_by(table.id.desc()).limit(limit)
    if name:
        query = query.where(table.name == name)
    if after:
        query = query.where(table.id < after)
    return session.exec(query).all()


def list_names(session: Session, project_id: str, type_: str, limit: int = 10) -> list[str]:
    """Some names there are, for messages that say what one could have meant."""
    table: Any = TABLES[type_]
    query = select(table.name).where(table.project_id == project_id).distinct().order_by(table.name).limit(limit)
    return list(session.exec(query).all())


@dataclass(frozen=True)
class Made:
    """A finished artifact, about to be registered."""

    type: str
    name: str
    artifact_key: str
    sha256: str
    bytes: int
    details: dict[str, Any] = field(default_factory=dict)


def register(session: Session, project_id: str, made: Made, job_id: str | None = None, attempt: int | None = None) -> Registered:
    """Record an artifact as the next version of its name. The same name with the same content is the same version."""
    table: Any = TABLES[made.type]
    # One at a time in a project: two jobs that finish together would both take the same next version.
    session.exec(select(Project.id).where(Project.id == project_id).with_for_update(key_share=True)).all()
    mine = select(table).where(table.project_id == project_id, table.name == made.name)
    same: Registered | None = session.exec(mine.where(table.sha256 == made.sha256).order_by(table.version.desc())).first()
    if same is not None:
        return same
    newest = session.exec(select(func.max(table.version)).where(table.project_id == project_id, table.name == made.name)).one()
    row: Registered = table(
        id=new_id(ID_PREFIXES[made.type]),
        project_id=project_id,
        name=made.name,
        version=(newest or 0) + 1,
        artifact_key=made.artifact_key,
        sha256=made.sha256,
        bytes=made.bytes,
        job_id=job_id,
        attempt=attempt,
        details=made.details,
        created_at=time.time(),
    )
    session.add(row)
    session.flush()
    return row
