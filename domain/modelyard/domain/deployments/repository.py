"""Every query about deployments and interactions."""

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, update
from sqlmodel import Session, col, select

from modelyard.domain.deployments.tables import Deployment, Interaction
from modelyard.domain.errors import NotFound
from modelyard.domain.jobs.tables import Job
from modelyard.kit.identifiers import new_id


def find_deployment(session: Session, project_id: str, reference: str) -> Deployment | None:
    """A deployment by id, or the newest of a name."""
    mine = select(Deployment).where(Deployment.project_id == project_id)
    if reference.startswith("dep_"):
        by_id = session.exec(mine.where(Deployment.id == reference)).first()
        if by_id is not None:  # a name may begin like an id
            return by_id
    return session.exec(mine.where(Deployment.name == reference).order_by(col(Deployment.id).desc())).first()


def find_ready(session: Session, project_id: str, name: str) -> Deployment | None:
    """The deployment that answers under a name: the one that became ready last."""
    query = select(Deployment).where(Deployment.project_id == project_id, Deployment.name == name, Deployment.state == "ready")
    return session.exec(query.order_by(col(Deployment.ready_at).desc())).first()


def get_deployment_or_raise(session: Session, project_id: str, reference: str) -> Deployment:
    """A deployment by id or name. Raises `NotFound`."""
    found = find_deployment(session, project_id, reference)
    if found is None:
        message = f"There is no deployment {reference!r} in this project; GET /v1/deployments lists them"
        raise NotFound(message, field="id", value=reference)
    return found


def list_deployments(session: Session, project_id: str, after: str | None = None, limit: int = 20) -> Sequence[Deployment]:
    """Newest first; `after` is the id of the last row of the page before."""
    query = select(Deployment).where(Deployment.project_id == project_id)
    if after:
        query = query.where(Deployment.id < after)
    return session.exec(query.order_by(col(Deployment.id).desc()).limit(limit)).all()


def open_deployment(session: Session, job: Job, name: str, model_id: str, token: str) -> Deployment:
    """The row of a deploy job at the start of an attempt: made once, `starting` again after each restart."""
    deployment = session.exec(select(Deployment).where(Deployment.job_id == job.id)).first()
    if deployment is None:
        deployment = Deployment(
            id=new_id("dep"),
            project_id=job.project_id,
            name=name,
            model_id=model_id,
            job_id=job.id,
            state="starting",
            attempt=job.attempt,
            token=token,
            created_at=time.time(),
        )
    deployment.state, deployment.attempt, deployment.token, deployment.url = "starting", job.attempt, token, None
    deployment.ready_at = deployment.stopped_at = None
    session.add(deployment)
    session.flush()
    return deployment


def mark_ready(session: Session, job_id: str, attempt: int, url: str) -> Deployment:
    """The model server of an attempt answers."""
    deployment = session.exec(select(Deployment).where(Deployment.job_id == job_id, Deployment.attempt == attempt)).one()
    deployment.state, deployment.url, deployment.ready_at = "ready", url, time.time()
    session.add(deployment)
    session.flush()
    return deployment


def mark_stopped(session: Session, job_id: str, attempt: int) -> None:
    """The model server of an attempt is gone; a later attempt's row is left alone."""
    mine = (col(Deployment.job_id) == job_id, col(Deployment.attempt) == attempt)
    session.execute(update(Deployment).where(*mine).values(state="stopped", url=None, stopped_at=time.time()))


def list_superseded(session: Session, deployment: Deployment) -> Sequence[Deployment]:
    """Ready deployments of the same name that a newer one replaces."""
    query = select(Deployment).where(
        Deployment.project_id == deployment.project_id,
        Deployment.name == deployment.name,
        Deployment.state == "ready",
        Deployment.id != deployment.id,
    )
    return session.exec(query).all()


def add_interaction(session: Session, **values: Any) -> Interaction:
    """Record one answered request."""
    interaction = Interaction(id=new_id("int"), **values)
    session.add(interaction)
    session.flush()
    return interaction


def count_interactions(session: Session, deployment_id: str, status: int | None = None) -> int:
    """Requests a deployment was sent, however they ended; or only those that ended with one HTTP status."""
    query = select(func.count()).select_from(Interaction).where(Interaction.deployment_id == deployment_id)
    if status is not None:
        query = query.where(Interaction.status == status)
    return int(session.exec(query).one())


def count_interactions_each(session: Session, deployment_ids: Sequence[str]) -> dict[str, int]:
    """Deployment id -> requests it answered; those that answered none are left out."""
    query = select(Interaction.deployment_id, func.count()).where(col(Interaction.deployment_id).in_(deployment_ids))
    return dict(session.exec(query.group_by(col(Interaction.deployment_id))).all())


def list_interactions(session: Session, deployment_id: str, after: str | None = None, limit: int = 100) -> Sequence[Interaction]:
    """Newest first; `after` is the id of the last row of the page before."""
    query = select(Interaction).where(Interaction.deployment_id == deployment_id)
    if after:
        query = query.where(Interaction.id < after)
    return session.exec(query.order_by(col(Interaction.id).desc()).limit(limit)).all()
