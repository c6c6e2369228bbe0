"""What is refused when a sweep is made: places and ranges its spec would not take, and trials that could never run."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from pydantic import ValidationError
from sqlmodel import Session

from modelyard.domain.errors import DomainError, InvalidRequest
from modelyard.domain.jobs.bodies import JobCreate
from modelyard.domain.jobs.submission import submit
from modelyard.domain.specs import KINDS
from modelyard.domain.sweeps.bodies import SweepCreate
from modelyard.domain.sweeps.halving import list_rungs
from modelyard.domain.sweeps.space import Body, Space, fill_in, list_grid

NOT_PARAMETERS = frozenset({"spec.kind", "spec.name"})
MOST_TRIED = 100
"""Ends that are tried as jobs, within the one transaction of the request; of more, the first ones."""


def try_job(session: Session, project_id: str, job: JobCreate) -> dict[str, Any]:
    """Submit the job as it is and take it back: raises what that raises. Return its inputs, pinned."""
    try:
        return _submit_and_take_back(session, project_id, job)
    except DomainError as error:
        error.field = f"job.{error.field}" if error.field else "job"
        raise


def try_ends(session: Session, project_id: str, job: Body, space: Space) -> None:
    """Submit the job with each end of each range, and take it back: it may name what is not there, or fit no machine."""
    ends = ((place, value) for place, parameter in space.items() for value in parameter.ends())
    for place, value in islice(ends, MOST_TRIED):
        try:
            _submit_and_take_back(session, project_id, JobCreate.model_validate(fill_in(job, {place: value})))
        except DomainError as error:
            error.field, error.value = f"parameters.{place}", value
            raise


def _submit_and_take_back(session: Session, project_id: str, job: JobCreate) -> dict[str, Any]:
    trial = session.begin_nested()
    try:
        return dict(submit(session, project_id, job.to_request()).inputs)
    finally:
        trial.rollback()


def check_space(job: Body, space: Space) -> None:
    """Refuse places that are not in the spec and ranges it would not accept at their ends. Pure. Raises `InvalidRequest`."""
    for place, parameter in space.items():
        if not place.startswith("spec.") or place in NOT_PARAMETERS:
            _refuse(place, place, "a parameter is a place in the spec, e.g. spec.optimizer.learning_rate")
        for value in parameter.ends():
            _check_values(job, {place: value}, place, value)
    # What is allowed alone may not be allowed together, e.g. sizes that must divide each other.
    for position in (0, -1):
        corner = {place: parameter.ends()[position] for place, parameter in space.items()}
        _check_values(job, corner, next(iter(space)), corner)


def check_grid(space: Space) -> int:
    """How many points a grid has. Pure. Raises `InvalidRequest` for a range without steps."""
    points = 1
    for place, parameter in space.items():
        values = list_grid(parameter)
        if not values:
            _refuse(place, parameter.type, "a grid needs the `step` of a range of floats, or `choices`")
        points *= len(values)
    return points


def check_pruning(body: SweepCreate) -> dict[str, Any] | None:
    """Pruning with the steps of the job's whole run. Pure. Raises `InvalidRequest` where there is no rung."""
    spec = body.job.spec
    if KINDS[spec.kind].is_service:
        raise InvalidRequest(f"job.spec.kind: a {spec.kind} job does not end, so no trial would", field="job.spec.kind")
    if body.pruning is None:
        return None
    steps = getattr(spec, "steps", None)
    if steps is None or not KINDS[spec.kind].can_resume:
        raise InvalidRequest(f"pruning: a {spec.kind} job has no steps to pause at; leave `pruning` out", field="pruning")
    if "spec.steps" in body.parameters:
        raise InvalidRequest("pruning: trials of different `spec.steps` share no rungs; leave one out", field="pruning")
    given = body.pruning
    if not list_rungs(given.min_steps, given.reduction_factor, steps):
        message = f"pruning.min_steps: {given.min_steps} is not below the {steps} steps of the job, so no trial would pause"
        raise InvalidRequest(message, field="pruning.min_steps", value=given.min_steps)
    return {**given.model_dump(), "steps": steps}


def _check_values(job: Body, values: Mapping[str, Any], place: str, value: object) -> None:
    try:
        JobCreate.model_validate(fill_in(job, values))
    except ValidationError as error:
        found = error.errors()[0]
        where = ".".join(str(part) for part in found["loc"])
        _refuse(place, value, f"{found['msg']} ({where})")


def _refuse(place: str, value: object, why: str) -> None:
    raise InvalidRequest(f"parameters.{place}: {value!r} cannot be used: {why}", field=f"parameters.{place}", value=value)
