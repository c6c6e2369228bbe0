"""Making sweeps, and the wishes of their users: pause, resume, cancel."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from sqlmodel import Session

from modelyard.domain.errors import Conflict, DomainError, InvalidRequest
from modelyard.domain.jobs.bodies import JobCreate
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.stopping import pause, resume
from modelyard.domain.jobs.submission import submit
from modelyard.domain.specs import KINDS
from modelyard.domain.sweeps.bodies import SweepCreate
from modelyard.domain.sweeps.halving import list_rungs
from modelyard.domain.sweeps.repository import list_trials
from modelyard.domain.sweeps.space import Body, Space, fill_in, list_grid
from modelyard.domain.sweeps.states import SweepState, TrialState
from modelyard.domain.sweeps.tables import Sweep
from modelyard.kit.database import read_clock
from modelyard.kit.identifiers import new_id

NOT_PARAMETERS = frozenset({"spec.kind", "spec.name"})


def create_sweep(session: Session, project_id: str, body: SweepCreate) -> Sweep:
    """Make a sweep whose job and ranges have been tried. Raises what a submission raises, and `InvalidRequest`."""
    job, inputs = body.job_as_given(), _try_job(session, project_id, body)
    check_space(job, body.parameters)
    sweep = Sweep(
        id=new_id("swp"),
        project_id=project_id,
        job=job,
        pruning=check_pruning(body),
        inputs=inputs,
        state=SweepState.RUNNING,
        created_at=read_clock(session),
        **body.model_dump(mode="json", exclude={"job", "pruning", "trials"}),
        trials=min(body.trials, check_grid(body.parameters)) if body.sampler == "grid" else body.trials,
    )
    session.add(sweep)
    session.flush()
    return sweep


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


def cancel_sweep(session: Session, sweep: Sweep) -> None:
    """End a locked sweep: its trials save and leave, and their checkpoints are kept. Asking twice changes nothing."""
    if SweepState(sweep.state).is_finished():
        raise Conflict(f"Sweep {sweep.id} is already {sweep.state}", field="sweep_id", value=sweep.id)
    _move(session, sweep, SweepState.CANCELLING)


def pause_sweep(session: Session, sweep: Sweep) -> None:
    """Give out no more work, and pause the trials of a locked sweep that run."""
    if sweep.state == SweepState.PAUSED:
        return
    if sweep.state != SweepState.RUNNING:
        raise Conflict(f"Sweep {sweep.id} is {sweep.state}; only a running one can pause", field="sweep_id", value=sweep.id)
    for trial, job in list_trials(session, sweep.id):
        if trial.state == TrialState.RUNNING and job is not None and _may_pause(job.kind, JobState(job.state)):
            pause(session, job)
    _move(session, sweep, SweepState.PAUSED)


def resume_sweep(session: Session, sweep: Sweep) -> None:
    """Let a locked, paused sweep and its trials go on."""
    if sweep.state != SweepState.PAUSED:
        raise Conflict(f"Sweep {sweep.id} is {sweep.state}; only a paused one can be resumed", field="sweep_id", value=sweep.id)
    for trial, job in list_trials(session, sweep.id):
        if trial.state == TrialState.RUNNING and job is not None and job.state == JobState.PAUSED:
            resume(session, job)
    _move(session, sweep, SweepState.RUNNING)


def _may_pause(kind: str, state: JobState) -> bool:
    return state in {JobState.QUEUED, JobState.HELD} or (state is JobState.RUNNING and KINDS[kind].can_resume)


def _move(session: Session, sweep: Sweep, state: SweepState) -> None:
    sweep.state, sweep.revision = state, sweep.revision + 1
    session.add(sweep)
    session.flush()


def _try_job(session: Session, project_id: str, body: SweepCreate) -> dict[str, Any]:
    """Submit the job as it is and take it back: raises what that raises. Return its inputs, pinned."""
    trial = session.begin_nested()
    try:
        return dict(submit(session, project_id, body.job.to_request()).inputs)
    except DomainError as error:
        error.field = f"job.{error.field}" if error.field else "job"
        raise
    finally:
        trial.rollback()


def _check_values(job: Body, values: Mapping[str, Any], place: str, value: object) -> None:
    try:
        JobCreate.model_validate(fill_in(job, values))
    except ValidationError as error:
        found = error.errors()[0]
        where = ".".join(str(part) for part in found["loc"])
        _refuse(place, value, f"{found['msg']} ({where})")


def _refuse(place: str, value: object, why: str) -> None:
    raise InvalidRequest(f"parameters.{place}: {value!r} cannot be used: {why}", field=f"parameters.{place}", value=value)
