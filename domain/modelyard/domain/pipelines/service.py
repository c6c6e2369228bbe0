"""Making pipelines and moving them on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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


def list_held(session: Session) -> Sequence[Job]:
    """Every job that waits for something other than a worker."""
    return session.exec(select(Job).where(Job.state == JobState.HELD).order_by(col(Job.id))).all()


def advance(session: Session, job_id: str) -> None:
    """Let a held job go on if it may; otherwise say what it waits for. Doing it twice, or too late, is harmless."""
    job = session.get(Job, job_id, with_for_update=True)  # read anew: it may have been cancelled since it was listed
    if job is None or job.state != JobState.HELD:
        return
    steps = {step.step: step for step in list_steps(session, job.pipeline_id) if step.step} if job.pipeline_id else {}
    try:
        verdict, inputs = admit(session, job, steps)
    except UnknownReference as error:
        verdict, inputs = Verdict(JobState.FAILED, str(Outcome.DEPENDENCY_FAILED), str(error)), {}
    if verdict.state is JobState.HELD:
        job.reason, job.message = verdict.reason, verdict.message
        session.add(job)
    elif verdict.state is JobState.FAILED:
        values = {"reason": verdict.reason, "message": verdict.message, "finished_at": database_now()}
        change(session, job, JobState.FAILED, {"reason": verdict.reason}, **values)
    else:
        change(session, job, JobState.QUEUED, inputs=inputs, reason=None, message=None)


def list_running_pipelines(session: Session) -> Sequence[Pipeline]:
    """Pipelines not known to be finished."""
    return session.exec(select(Pipeline).where(Pipeline.state == "running")).all()


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
