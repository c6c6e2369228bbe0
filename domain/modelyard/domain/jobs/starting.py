"""Where a new job begins that is to go on from another job's checkpoint: found and judged when it is submitted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import ValidationError
from sqlmodel import Session

from modelyard.domain.errors import InvalidRequest, UnknownReference
from modelyard.domain.jobs.continuation import Side, find_obstacle, is_training, keep_batch
from modelyard.domain.jobs.queues import Shape
from modelyard.domain.jobs.tables import Checkpoint, Job
from modelyard.domain.planning.faults import TrainingSpec
from modelyard.domain.specs import parse_spec
from modelyard.domain.specs.base import JobSpec

Inputs = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Start:
    """The checkpoint a job begins at."""

    checkpoint_id: str
    job_id: str
    step: int


def find_start(
    session: Session, project_id: str, checkpoint_id: str, spec: JobSpec, shape: Shape, inputs: Inputs, *, holds: bool = True
) -> tuple[JobSpec, Start]:
    """Return the spec with the batch of the job that made the checkpoint, and where it begins.

    `holds`: lock the row of that job, so that nobody removes the checkpoint before this transaction ends.
    Raises `UnknownReference`, and `InvalidRequest` with the numbers where the state would not fit.
    """
    if not is_training(spec):
        kind = getattr(spec, "kind", "")
        raise InvalidRequest(
            f"resume_from: a {kind} job has no checkpoints; leave it out", field="resume_from", value=checkpoint_id
        )
    checkpoint, maker = _find(session, project_id, checkpoint_id, holds)
    if checkpoint.damage is not None:
        raise InvalidRequest(
            f"resume_from: checkpoint {checkpoint_id} was found damaged: {checkpoint.damage}; take an earlier one, "
            f"GET /v1/jobs/{maker.id}/checkpoints lists them",
            field="resume_from",
            value=checkpoint_id,
        )
    new = Side(cast(TrainingSpec, spec), inputs, shape.slots * shape.nodes)
    old = Side(_read_spec(maker, checkpoint_id), maker.inputs, maker.slots * maker.nodes)
    fault = find_obstacle(new, old, checkpoint.step)
    if fault is not None:
        raise InvalidRequest(fault.message, field=fault.field, value=fault.value)
    return keep_batch(new, old), Start(checkpoint.id, maker.id, checkpoint.step)


def _find(session: Session, project_id: str, checkpoint_id: str, holds: bool) -> tuple[Checkpoint, Job]:
    checkpoint = session.get(Checkpoint, checkpoint_id)
    maker = None
    if checkpoint is not None:
        # Whoever removes checkpoints locks their job first. Shared: those who begin at one do not wait for each other.
        maker = session.get(Job, checkpoint.job_id, with_for_update={"read": True} if holds else None)
        checkpoint = session.get(Checkpoint, checkpoint_id, populate_existing=True)
    is_mine = maker is not None and maker.project_id == project_id and maker.stop_requested != "discarded"
    if checkpoint is None or maker is None or not is_mine or checkpoint.removed_at is not None:
        raise UnknownReference(
            f"resume_from: there is no checkpoint {checkpoint_id} in this project, or it was removed; "
            "GET /v1/jobs/{id}/checkpoints lists those of a job",
            field="resume_from",
            value=checkpoint_id,
        )
    return checkpoint, maker


def _read_spec(maker: Job, checkpoint_id: str) -> TrainingSpec:
    try:
        return cast(TrainingSpec, parse_spec(maker.spec))
    except ValidationError as error:
        raise InvalidRequest(
            f"resume_from: job {maker.id}, which made the checkpoint, was submitted to another version, which understood its "
            f"spec: {error.errors()[0]['msg']}",
            field="resume_from",
            value=checkpoint_id,
        ) from error
