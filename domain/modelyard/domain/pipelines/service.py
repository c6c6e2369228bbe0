"""Making pipelines."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlmodel import Session

from modelyard.domain.errors import DomainError, InvalidRequest, UnknownReference
from modelyard.domain.jobs.admission import pin
from modelyard.domain.jobs.submission import JobRequest, Place, submit
from modelyard.domain.jobs.tables import Job
from modelyard.domain.pipelines.advancement import advance, settle
from modelyard.domain.pipelines.references import parse_step_reference
from modelyard.domain.pipelines.tables import Pipeline
from modelyard.domain.specs import KINDS, find_references
from modelyard.kit.database import read_clock
from modelyard.kit.identifiers import new_id


@dataclass(frozen=True)
class StepRequest:
    """One step: a job, and steps it waits for beyond those its spec refers to."""

    job: JobRequest
    depends_on: list[str] = field(default_factory=list)


def create_pipeline(
    session: Session, project_id: str, name: str, steps: Mapping[str, StepRequest], reuse: bool = False
) -> Pipeline:
    """Create all jobs of a pipeline in one transaction. Raises `InvalidRequest` or `UnknownReference`, and then makes nothing.

    `reuse`: steps whose spec and inputs did not change succeed at once with the outputs of an earlier job.
    """
    dependencies = {step: _dependencies(step, request, steps) for step, request in steps.items()}
    order = _sort(dependencies)
    for step, request in steps.items():
        _check_outside(session, project_id, step, request, steps)
    now = read_clock(session)
    pipeline = Pipeline(id=new_id("pipe"), project_id=project_id, name=name, state="running", reuse=reuse, created_at=now)
    session.add(pipeline)
    session.flush()
    made: list[Job] = []
    for step in order:
        try:
            made.append(submit(session, project_id, steps[step].job, Place(pipeline.id, step, dependencies[step], reuse)))
        except DomainError as error:
            error.field = f"jobs.{step}.{error.field}" if error.field else f"jobs.{step}"
            raise
    if reuse:
        for job in made:
            advance(session, job.id)
        settle(session, pipeline.id)
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
    spec = request.job.spec
    outputs = KINDS[getattr(spec, "kind")].outputs  # noqa: B009 - every member of the union has one
    return {name: type_ for name, type_ in outputs.items() if spec.makes(name)}


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
            names = ", ".join(remaining)
            message = f"jobs: these steps wait for each other in a circle: {names}; let one of them start without the others"
            raise InvalidRequest(message, field="jobs", value=names)
        order += free
        for step in free:
            del remaining[step]
    return order
