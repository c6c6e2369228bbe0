"""Making jobs: one function for jobs submitted alone and for the steps of a pipeline."""

from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session

from modelyard.domain.errors import Conflict, InvalidRequest
from modelyard.domain.jobs.admission import Verdict, check_kind, resolve_inputs
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.ownership import add_event
from modelyard.domain.jobs.queues import Shape, effective_accelerator, queue_name
from modelyard.domain.jobs.tables import Job
from modelyard.domain.specs import KINDS
from modelyard.domain.specs.base import JobSpec
from modelyard.kit.database import read_clock
from modelyard.kit.identifiers import new_id

PRIORITY_SECONDS = 60.0
"""One point of priority counts like so much longer waiting."""


@dataclass(frozen=True)
class JobRequest:
    """What a user asks for, already validated by type."""

    spec: JobSpec
    name: str | None = None
    priority: int = 50
    shape: Shape = field(default_factory=Shape)
    max_attempts: int = 1
    preemptible: bool = False
    time_limit_seconds: float | None = None
    start_at: float | None = None
    """Seconds since the epoch."""
    needs_approval: bool = False
    retry_of: str | None = None


@dataclass(frozen=True)
class Place:
    """Where in a pipeline a job stands."""

    pipeline_id: str
    step: str
    depends_on: list[str]


def submit(session: Session, project_id: str, request: JobRequest, place: Place | None = None) -> Job:
    """Create a job, `queued` if it may run now, else `held`, which says what for.

    Raises `UnknownReference`, `InvalidRequest`, and `Conflict` where it could never run.
    """
    kind = getattr(request.spec, "kind")  # noqa: B009 - every member of the union has one, the base class does not
    if request.shape.nodes > 1:
        raise InvalidRequest(
            "resources.nodes: this version runs a job on one machine; ask for more slots instead",
            field="resources.nodes",
            value=request.shape.nodes,
        )
    if request.shape.slots > 1 and not KINDS[kind].is_distributed:
        raise InvalidRequest(
            f"resources.slots: a {kind} job is one process and takes one slot", field="resources.slots", value=request.shape.slots
        )
    waits = place is not None and bool(place.depends_on)
    inputs: dict[str, Any] = {} if waits else resolve_inputs(session, project_id, request.spec, {})
    verdict = Verdict(JobState.HELD, "dependency", None) if waits else check_kind(session, request.spec, inputs)
    if verdict.state is JobState.FAILED:
        field_ = "spec.gate" if kind == "deploy" else "spec.deployment"
        raise Conflict(verdict.message or "The job could never run", field=field_)
    job = _make_job(session, project_id, request, kind, place)
    job.inputs, job.state, job.reason = inputs, str(verdict.state), verdict.reason
    job.message = f"Waits for {', '.join(place.depends_on)}" if waits and place else verdict.message
    session.add(job)
    session.flush()
    add_event(session, job.id, 0, "state", {"state": job.state, "reason": job.reason})
    return job


def _make_job(session: Session, project_id: str, request: JobRequest, kind: str, place: Place | None) -> Job:
    now = read_clock(session)
    stage = KINDS[kind].stage
    shape = Shape(request.shape.slots, effective_accelerator(stage, request.shape.accelerator), request.shape.nodes)
    return Job(
        id=new_id("job"),
        project_id=project_id,
        name=request.name or str(getattr(request.spec, "name", kind)),
        kind=kind,
        stage=stage,
        spec=request.spec.model_dump(mode="json", by_alias=True),
        queue=queue_name(stage, shape),
        slots=shape.slots,
        accelerator=shape.accelerator,
        nodes=shape.nodes,
        priority=request.priority,
        order_key=now - request.priority * PRIORITY_SECONDS,
        state=str(JobState.HELD),
        max_attempts=request.max_attempts,
        preemptible=request.preemptible,
        time_limit_seconds=request.time_limit_seconds,
        start_at=request.start_at,
        needs_approval=request.needs_approval,
        retry_of=request.retry_of,
        submitted_at=now,
        pipeline_id=place.pipeline_id if place else None,
        step=place.step if place else None,
        depends_on=place.depends_on if place else [],
    )
