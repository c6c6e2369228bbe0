"""Making pipelines and moving them on."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import load_only
from sqlmodel import Session, col, select

from modelyard.domain.errors import DomainError, InvalidRequest, NotFound, UnknownReference
from modelyard.domain.jobs.admission import Verdict, admit, is_done, pin
from modelyard.domain.jobs.lifecycle import JobState, Outcome
from modelyard.domain.jobs.ownership import change
from modelyard.domain.jobs.submission import JobRequest, Place, submit
from modelyard.domain.jobs.tables import Job
from modelyard.domain.pipelines.references import parse_step_reference
from modelyard.domain.pipelines.tables import Pipeline
from modelyard.domain.specs import KINDS, find_references
from modelyard.kit.database import database_now, read_clock
from modelyard.kit.identifiers import new_id


@dataclass(frozen=True)
class StepRequest:
    """One step: a job, and steps it waits for beyond those its spec refers to."""

    job: JobRequest
    depends_on: list[str] = field(default_factory=list)


def create_pipeline(session: Session, project_id: str, name: str, steps: Mapping[str, StepRequest]) -> Pipeline:
    """Create all jobs of a pipeline in one transaction. Raises `InvalidRequest` or `UnknownReference`, and then makes nothing."""
    dependencies = {step: _dependencies(step, request, steps) for step, request in steps.items()}
    order = _sort(dependencies)
    for step, request in steps.items():
        _check_outside(session, project_id, step, request, steps)
    now = read_clock(session)
    pipeline = Pipeline(id=new_id("pipe"), project_id=project_id, name=name, state="running", created_at=now)
    session.add(pipeline)
    session.flush()
    for step in order:
        try:
            submit(session, project_id, steps[step].job, Place(pipeline.id, step, dependencies[step]))
        except DomainError as error:
            error.field = f"jobs.{step}.{error.field}" if error.field else f"jobs.{step}"
            raise
    return pipeline


def _dependencies(step: str, request: StepRequest, steps: Mapping[str, StepRequest]) -> list[str]:
    names = list(request.depends_on)
    for found in find_references(request.job.spec):
        place = f"jobs.{step}.spec.{found.path}"
        reference = parse_step_reference(found.value)
        if reference is None:
            continue
        if reference.name in steps:
            _check_type(place, found.type, found.value, _outputs(steps[reference.name]), reference.output)
        names.append(reference.name)
    for name in names:
        if name not in steps:
            raise UnknownReference(
                f"jobs.{step} refers to the step {name!r}; this pipeline has {', '.join(steps)}", field=f"jobs.{step}", value=name
            )
    return list(dict.fromkeys(names))


def _check_outside(session: Session, project_id: str, step: str, request: StepRequest, steps: Mapping[str, StepRequest]) -> None:
    """Refuse now what would fail in hours: names that mean nothing, unless a step it waits for may make them."""
    made = {type_ for name in request.depends_on for type_ in _outputs(steps[name]).values()}
    for found in find_references(request.job.spec):
        if parse_step_reference(found.value) is None and found.type not in made:
            try:
                pin(session, project_id, found, {})
            except UnknownReference as error:
                error.field = f"jobs.{step}.{error.field}"
                raise


def _outputs(request: StepRequest) -> dict[str, str]:
    return KINDS[getattr(request.job.spec, "kind")].outputs  # noqa: B009 - every member of the union has one


def _check_type(place: str, wanted: str, written: str, outputs: dict[str, str], output: str | None) -> None:
    name = output or next(iter(outputs))
    if name not in outputs:
        raise UnknownReference(f"{place}: {written} – that step makes {', '.join(outputs)}", field=place, value=written)
    if outputs[name] != wanted:
        raise UnknownReference(f"{place} wants a {wanted}, but {written} is a {outputs[name]}", field=place, value=written)


def _sort(dependencies: Mapping[str, list[str]]) -> list[str]:
    """Steps in an order where each comes after those it depends on. Raises `InvalidRequest` for a circle."""
    order: list[str] = []
    remaining = dict(dependencies)
    while remaining:
        free = [step for step, needs in remaining.items() if all(need in order for need in needs)]
        if not free:
            raise InvalidRequest(f"These steps wait for each other in a circle: {', '.join(remaining)}", field="jobs")
        order += free
        for step in free:
            del remaining[step]
    return order


def get_pipeline_or_raise(session: Session, project_id: str, pipeline_id: str) -> Pipeline:
    """A pipeline of a project. Raises `NotFound`."""
    pipeline = session.get(Pipeline, pipeline_id)
    if pipeline is None or pipeline.project_id != project_id:
        raise NotFound(f"There is no pipeline {pipeline_id} in this project", field="pipeline_id", value=pipeline_id)
    return pipeline


def list_pipelines(session: Session, project_id: str, after: str | None = None, limit: int = 20) -> Sequence[Pipeline]:
    """Newest first; `after` is the id of the last row of the page before."""
    query = select(Pipeline).where(Pipeline.project_id == project_id)
    if after:
        query = query.where(Pipeline.id < after)
    return session.exec(query.order_by(col(Pipeline.id).desc()).limit(limit)).all()


def list_steps(session: Session, pipeline_id: str, for_update: bool = False) -> Sequence[Job]:
    """The jobs of a pipeline, each after those it depends on; `for_update` when they are about to be changed."""
    query = select(Job).where(Job.pipeline_id == pipeline_id).order_by(col(Job.id))
    return session.exec(query.with_for_update() if for_update else query).all()


@dataclass(frozen=True)
class Held:
    """A job that waits for something other than a worker, among the steps of its pipeline (shared with its siblings)."""

    job: Job
    steps: dict[str, Job]


def list_held(session: Session) -> Sequence[Held]:
    """Every held job, each after those it depends on. Two queries, however many pipelines there are."""
    held = session.exec(select(Job).where(Job.state == JobState.HELD).order_by(col(Job.id))).all()
    pipelines = select(Job.pipeline_id).where(Job.state == JobState.HELD, col(Job.pipeline_id).is_not(None))
    steps: defaultdict[str | None, dict[str, Job]] = defaultdict(dict)
    for step in session.exec(select(Job).where(col(Job.pipeline_id).in_(pipelines))):
        steps[step.pipeline_id][str(step.step)] = step
    return [Held(job, steps[job.pipeline_id] if job.pipeline_id else {}) for job in held]


def would_advance(session: Session, held: Held) -> bool:
    """Whether `advance` would change the row: nothing is locked or written to find out."""
    verdict, _ = _judge(session, held.job, held.steps)
    return verdict != Verdict(JobState.HELD, held.job.reason, held.job.message)


def advance(session: Session, job_id: str) -> Job | None:
    """Let a held job go on if it may; otherwise say what it waits for. Doing it twice, or too late, is harmless.

    Returns the job as it is now; None if it is gone.
    """
    job = session.get(Job, job_id, with_for_update=True)  # read anew: it may have been cancelled since it was listed
    if job is None or job.state != JobState.HELD:
        return job
    verdict, inputs = _judge(session, job, _steps_before(session, job))
    if verdict.state is JobState.HELD:
        job.reason, job.message = verdict.reason, verdict.message
        session.add(job)
    elif verdict.state is JobState.FAILED:
        values = {"reason": verdict.reason, "message": verdict.message, "finished_at": database_now()}
        change(session, job, JobState.FAILED, {"reason": verdict.reason}, **values)
    else:
        change(session, job, JobState.QUEUED, inputs=inputs, reason=None, message=None)
    return job


def _judge(session: Session, job: Job, steps: Mapping[str, Job]) -> tuple[Verdict, dict[str, dict[str, Any]]]:
    try:
        return admit(session, job, steps)
    except UnknownReference as error:
        return Verdict(JobState.FAILED, str(Outcome.DEPENDENCY_FAILED), str(error)), {}


def _steps_before(session: Session, job: Job) -> dict[str, Job]:
    """The steps a job depends on; every step its spec refers to is among them."""
    if not job.pipeline_id or not job.depends_on:
        return {}
    query = select(Job).where(Job.pipeline_id == job.pipeline_id, col(Job.step).in_(job.depends_on))
    return {str(step.step): step for step in session.exec(query)}


def list_unsettled(session: Session) -> Sequence[str]:
    """Ids of pipelines whose steps are all over while their own state does not say so."""
    running = session.exec(select(Pipeline.id).where(Pipeline.state == "running")).all()
    query = select(Job).where(col(Job.pipeline_id).in_(select(Pipeline.id).where(Pipeline.state == "running")))
    parts: defaultdict[str | None, list[Job]] = defaultdict(list)
    for step in session.exec(query.options(load_only(*_TELLING))):
        parts[step.pipeline_id].append(step)
    return [id_ for id_ in running if pipeline_state(parts[id_]) != "running"]


_TELLING: Any = (Job.pipeline_id, Job.kind, Job.state, Job.ready_at)
"""All that `pipeline_state` looks at."""


def settle(session: Session, pipeline_id: str) -> None:
    """Give a pipeline its final state once every step has one."""
    pipeline = session.get(Pipeline, pipeline_id)
    state = pipeline_state(list_steps(session, pipeline_id))
    if pipeline is not None and pipeline.state == "running" and state != "running":
        pipeline.state = state
        pipeline.finished_at = read_clock(session)
        session.add(pipeline)


def pipeline_state(steps: Sequence[Job]) -> str:
    """`running` until every step is done or finished, then the worst ending. Pure."""
    if all(is_done(step) for step in steps):
        return "succeeded"
    if any(not is_done(step) and not JobState(step.state).is_finished() for step in steps):
        return "running"
    if any(step.state in {JobState.FAILED, JobState.QUARANTINED} for step in steps):
        return "failed"
    return "cancelled"
