"""Carrying out what was decided about a sweep: each is one transaction, and changes nothing if anybody was faster."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from pydantic import ValidationError
from sqlalchemy import CursorResult, update
from sqlmodel import Session, col

from modelyard.domain.errors import Conflict, DomainError
from modelyard.domain.jobs.admission import resolve_inputs
from modelyard.domain.jobs.bodies import JobCreate
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.stopping import cancel, resume
from modelyard.domain.jobs.submission import JobRequest, submit
from modelyard.domain.jobs.tables import Job
from modelyard.domain.scheduling.quotas import QuotaExceeded
from modelyard.domain.sweeps.decisions import Action, Close, Create, End, Note, Promote, find_best
from modelyard.domain.sweeps.promotion import promote_best
from modelyard.domain.sweeps.repository import list_trials
from modelyard.domain.sweeps.situation import view_sweep, view_trial
from modelyard.domain.sweeps.space import fill_in
from modelyard.domain.sweeps.states import TrialState
from modelyard.domain.sweeps.tables import Sweep, Trial
from modelyard.kit.database import read_clock


class Outrun(Conflict):
    """Somebody changed the sweep since this was decided; nothing was written."""

    code = "outrun"

    def __init__(self, sweep_id: str) -> None:
        super().__init__(f"Sweep {sweep_id} changed meanwhile; decide anew")


def carry_out(session: Session, sweep_id: str, revision: int, action: Action, parameters: Mapping[str, Any]) -> None:
    """Do one thing about a sweep. `parameters`: of the trial to create, empty for all else.

    Raises `Outrun`, or the `Conflict` of a job that moved meanwhile; and `QuotaExceeded` where no job may be added now.
    """
    sweep = _take(session, sweep_id, revision)
    if isinstance(action, Create):
        _create(session, sweep, action, parameters)
    elif isinstance(action, Close):
        _close(session, sweep, action)
    else:
        _change_trial(session, sweep, action)
    session.flush()
    if isinstance(action, Note):
        sweep.best = find_best(view_sweep(sweep), [view_trial(trial) for trial, _ in list_trials(session, sweep.id)])


def _take(session: Session, sweep_id: str, revision: int) -> Sweep:
    mine = (col(Sweep.id) == sweep_id, col(Sweep.revision) == revision, col(Sweep.finished_at).is_(None))
    taken = cast(CursorResult[Any], session.execute(update(Sweep).where(*mine).values(revision=revision + 1)))
    if taken.rowcount == 0:
        raise Outrun(sweep_id)
    return session.get_one(Sweep, sweep_id)


def _create(session: Session, sweep: Sweep, action: Create, parameters: Mapping[str, Any]) -> None:
    trial = Trial(
        sweep_id=sweep.id,
        number=action.number,
        parameters=dict(parameters),
        state=TrialState.RUNNING,
        created_at=read_clock(session),
    )
    session.add(trial)
    session.flush()
    try:
        with session.begin_nested():
            trial.job_id = submit(session, sweep.project_id, make_request(session, sweep, action, parameters)).id
    except QuotaExceeded:
        raise
    except (DomainError, ValidationError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        trial.state, trial.message, trial.finished_at = TrialState.FAILED, f"its job was refused: {why}", trial.created_at
        trial.job_id = None


def make_request(session: Session, sweep: Sweep, action: Create, parameters: Mapping[str, Any]) -> JobRequest:
    """The job of a trial, on the inputs that were there when the sweep was made. Raises pydantic's `ValidationError`."""
    body = JobCreate.model_validate({**fill_in(sweep.job, parameters), "name": f"{sweep.name}-{action.number}"})
    fresh = resolve_inputs(session, sweep.project_id, body.spec, {})
    pinned = {place: row for place, row in sweep.inputs.items() if place in fresh and f"spec.{place}" not in parameters}
    return replace(body.to_request(), pause_at_step=action.pause_at_step, inputs={**fresh, **pinned})


def _change_trial(session: Session, sweep: Sweep, action: Note | Promote | End) -> None:
    trial = session.get_one(Trial, (sweep.id, action.number))
    if isinstance(action, Note):
        trial.state, trial.message = action.state, action.message
        if action.step is not None:
            value = action.value if action.value is not None and math.isfinite(action.value) else None
            trial.results = {**trial.results, str(action.step): value}
        if trial.state == TrialState.FAILED:
            _end_job(session, trial, keep_checkpoint=True)
    elif isinstance(action, Promote):
        job = _lock_job(session, trial)
        job.pause_at_step = action.pause_at_step
        session.add(job)
        session.flush()
        resume(session, job)
        trial.state = TrialState.RUNNING
    else:
        _end_job(session, trial, action.keep_checkpoint)
        trial.state, trial.message = TrialState.STOPPED, action.why
    if TrialState(trial.state).is_over():
        trial.finished_at = read_clock(session)
    session.add(trial)


def _end_job(session: Session, trial: Trial, keep_checkpoint: bool) -> None:
    job = _lock_job(session, trial)
    if not JobState(job.state).is_finished():
        cancel(session, job, keep_checkpoint)


def _lock_job(session: Session, trial: Trial) -> Job:
    return session.get_one(Job, trial.job_id, with_for_update=True)


def _close(session: Session, sweep: Sweep, action: Close) -> None:
    sweep.state, sweep.best, sweep.message = action.state, action.best, action.message
    sweep.finished_at = read_clock(session)
    if action.best is not None and sweep.promote is not None:
        promote_best(session, sweep, session.get_one(Trial, (sweep.id, action.best)))
    session.add(sweep)
