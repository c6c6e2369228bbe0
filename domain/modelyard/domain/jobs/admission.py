"""May a job run now? Its references must resolve, the steps it depends on must be done, and its kind may ask for more."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlmodel import Session

from modelyard.domain.deployments.repository import count_interactions, find_deployment
from modelyard.domain.deployments.tables import Deployment
from modelyard.domain.errors import UnknownReference
from modelyard.domain.jobs.lifecycle import HeldReason, JobState, Outcome
from modelyard.domain.jobs.queues import Shape
from modelyard.domain.jobs.tables import Job
from modelyard.domain.pipelines.references import StepReference, parse_step_reference
from modelyard.domain.planning.refusal import check_training
from modelyard.domain.registry.repository import find, list_names
from modelyard.domain.registry.tables import Evaluation
from modelyard.domain.specs import KINDS, find_references, parse_spec
from modelyard.domain.specs.base import FoundReference, JobSpec
from modelyard.domain.specs.deployment import DeploySpec
from modelyard.domain.specs.monitoring import MonitorSpec
from modelyard.kit.database import read_clock


@dataclass(frozen=True)
class Verdict:
    """Whether a job is `queued` now, stays `held`, or can never run and is `failed`; with the reason."""

    state: JobState
    reason: str | None = None
    message: str | None = None


ADMITTED = Verdict(JobState.QUEUED)


def check_dependencies(depends_on: list[str], steps: Mapping[str, Job]) -> Verdict:
    """Judge by the states of the steps a job depends on. Pure."""
    for name in depends_on:
        step = steps[name]
        if JobState(step.state).is_finished() and step.state != JobState.SUCCEEDED:
            message = f"Step {name} ({step.id}) is {step.state}: {step.message or step.reason or 'no reason given'}"
            return Verdict(JobState.FAILED, str(Outcome.DEPENDENCY_FAILED), message)
    waiting = [f"{name} ({steps[name].id}, {steps[name].state})" for name in depends_on if not is_done(steps[name])]
    if waiting:
        return Verdict(JobState.HELD, "dependency", f"Waits for {', '.join(waiting)}")
    return ADMITTED


def is_done(job: Job) -> bool:
    """Whether dependents may start: it succeeded, or it is a service that answers."""
    return job.state == JobState.SUCCEEDED or (KINDS[job.kind].is_service and job.ready_at is not None)


def resolve_inputs(session: Session, project_id: str, spec: JobSpec, steps: Mapping[str, Job]) -> dict[str, dict[str, Any]]:
    """Pin every reference of a spec: place -> `{"type", "id", "name", "version", "sha256"}`. Raises `UnknownReference`."""
    return {found.path: pin(session, project_id, found, steps) for found in find_references(spec)}


def pin(session: Session, project_id: str, found: FoundReference, steps: Mapping[str, Job]) -> dict[str, Any]:
    """Pin one reference. Raises `UnknownReference`."""
    step = parse_step_reference(found.value)
    reference = _output_of(step, steps, found) if step else found.value
    if found.type == "deployment":
        deployment = find_deployment(session, project_id, reference)
        if deployment is not None:
            return {"type": "deployment", "id": deployment.id, "name": deployment.name, "version": None}
    else:
        row = find(session, project_id, found.type, reference)
        if row is not None:
            return {"type": found.type, "id": row.id, "name": row.name, "version": row.version, "sha256": row.sha256}
    raise UnknownReference(_say_unknown(session, project_id, found), field=f"spec.{found.path}", value=found.value)


def _say_unknown(session: Session, project_id: str, found: FoundReference) -> str:
    names = [] if found.type == "deployment" else list_names(session, project_id, found.type)
    hint = f"There are: {', '.join(names)}" if names else f"GET /v1/{found.type}s lists what there is"
    return f"spec.{found.path} names the {found.type} {found.value!r}, which does not exist. {hint}"


def _output_of(step: StepReference, steps: Mapping[str, Job], found: FoundReference) -> str:
    job = steps.get(step.name)
    if job is None:
        raise UnknownReference(
            f"spec.{found.path}: {found.value} names a step, but this job is no part of a pipeline that has one; "
            f"give a {found.type} by name or id, or submit a pipeline",
            field=f"spec.{found.path}",
            value=found.value,
        )
    name = step.output or next(iter(KINDS[job.kind].outputs))
    output = job.outputs.get(name)
    if output is None:
        raise UnknownReference(
            f"spec.{found.path}: step {step.name} ({job.id}) made no output {name!r}", field=f"spec.{found.path}"
        )
    return str(output["id"])


def check_kind(session: Session, spec: JobSpec, inputs: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """What a kind asks for beyond its inputs being there."""
    if isinstance(spec, DeploySpec) and "gate" in inputs:
        evaluation = session.get(Evaluation, inputs["gate"]["id"])
        assert evaluation is not None
        return check_gate(evaluation.id, evaluation.details, inputs["model"]["id"])
    if isinstance(spec, MonitorSpec):
        deployment = session.get(Deployment, inputs["deployment"]["id"])
        assert deployment is not None
        server = session.get(Job, deployment.job_id)
        assert server is not None
        ended = f"{deployment.id} ({server.id}) is {server.state}" if JobState(server.state).is_finished() else None
        return check_traffic(spec, count_interactions(session, deployment.id, status=200), ended)
    return ADMITTED


def check_gate(evaluation_id: str, details: Mapping[str, Any], model_id: str) -> Verdict:
    """A gate lets pass only the model it judged, and only if it passed. Pure."""
    if details.get("candidate_id") != model_id:
        message = f"Evaluation {evaluation_id} judged {details.get('candidate_id')}, not the model to deploy ({model_id})"
        return Verdict(JobState.FAILED, str(Outcome.DEPENDENCY_FAILED), message)
    if not details.get("gate_passed"):
        message = f"The gate of evaluation {evaluation_id} did not pass: {details.get('gate')}"
        return Verdict(JobState.FAILED, str(Outcome.DEPENDENCY_FAILED), message)
    return ADMITTED


def check_traffic(spec: MonitorSpec, answered: int, ended: str | None = None) -> Verdict:
    """A monitor waits for enough requests to say something, unless its deployment will answer no more. Pure."""
    if answered >= spec.min_interactions:
        return ADMITTED
    if ended is None:
        message = f"Waits for {spec.min_interactions} answered requests of deployment {spec.deployment}; {answered} so far"
        return Verdict(JobState.HELD, "traffic", message)
    way_out = "deploy it again, send it requests, then submit the monitor again"
    if answered:
        way_out += f", or submit it with min_interactions: {answered}"
    message = (
        f"Deployment {spec.deployment} answers no more: {ended}, after {answered} of {spec.min_interactions} requests; {way_out}"
    )
    return Verdict(JobState.FAILED, str(Outcome.DEPENDENCY_FAILED), message)


def check_approval(needs_approval: bool, approved_at: float | None) -> Verdict:
    """A job that asks for it waits until somebody has approved it. Pure."""
    if not needs_approval or approved_at is not None:
        return ADMITTED
    message = "Waits for approval by a key of the project with the scope `write`: POST /v1/jobs/{id}/approve"
    return Verdict(JobState.HELD, "approval", message)


def first_obstacle(verdicts: Iterable[Verdict]) -> Verdict:
    """The first verdict that does not admit; those behind it are not asked for."""
    return next((verdict for verdict in verdicts if verdict != ADMITTED), ADMITTED)


def check_start_time(start_at: float | None, now: float) -> Verdict:
    """A job is held until its start time. Pure."""
    if start_at is None or start_at <= now:
        return ADMITTED
    moment = datetime.fromtimestamp(start_at, UTC).isoformat(timespec="seconds")
    return Verdict(JobState.HELD, str(HeldReason.START_TIME), f"Starts at {moment}, as it was asked to")


def admit(session: Session, job: Job, steps: Mapping[str, Job]) -> tuple[Verdict, dict[str, dict[str, Any]]]:
    """Judge a held job; with its inputs, pinned as soon as its dependencies are done.

    Raises `UnknownReference`, and `InvalidRequest` where these inputs cannot be trained with.
    """
    verdict = check_dependencies(job.depends_on, steps)
    if verdict != ADMITTED:
        return verdict, {}
    spec = parse_spec(job.spec)
    # Pinned once: what somebody approved, or what a job that is tried again began with, is what runs.
    inputs = job.inputs or resolve_inputs(session, job.project_id, spec, steps)
    # Not held against the machines: those that could run it may be away at this moment.
    check_training(session, spec, Shape(job.slots, job.accelerator, job.nodes), inputs, asks_machines=False)
    return first_obstacle(_checks(session, job, spec, inputs)), inputs


def _checks(session: Session, job: Job, spec: JobSpec, inputs: Mapping[str, Mapping[str, Any]]) -> Iterator[Verdict]:
    """What a job may have to wait for once its inputs are there, in this order."""
    yield check_kind(session, spec, inputs)
    yield check_approval(job.needs_approval, job.approved_at)
    if job.start_at is not None:
        yield check_start_time(job.start_at, read_clock(session))
