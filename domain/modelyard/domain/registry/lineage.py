"""Where a thing came from: artifact → job → inputs → …, walked back to what came from outside."""

from typing import Any

from sqlmodel import Session

from modelyard.domain.deployments.tables import Deployment
from modelyard.domain.jobs.tables import Job
from modelyard.domain.registry.tables import TABLES

DEPTH_LIMIT = 32


def trace(session: Session, type_: str, id_: str, depth: int = DEPTH_LIMIT) -> dict[str, Any]:
    """The ancestors of a thing as a tree: `{"type", "id", "name", "version", "job": {…, "inputs": {place: tree}}}`."""
    row: Any = session.get(Deployment if type_ == "deployment" else TABLES[type_], id_)
    if row is None:
        return {"type": type_, "id": id_, "missing": True}
    node: dict[str, Any] = {"type": type_, "id": id_, "name": row.name, "version": getattr(row, "version", None)}
    job = session.get(Job, row.job_id) if row.job_id else None
    if job is None or depth == 0:
        return node
    inputs = {place: trace(session, given["type"], given["id"], depth - 1) for place, given in job.inputs.items()}
    return {**node, "job": {"id": job.id, "kind": job.kind, "attempt": getattr(row, "attempt", None), "inputs": inputs}}
