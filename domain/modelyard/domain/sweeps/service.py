"""Making sweeps, and the wishes of their users: pause, resume, cancel."""

from sqlmodel import Session

from modelyard.domain.errors import Conflict
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.stopping import pause, resume
from modelyard.domain.specs import KINDS
from modelyard.domain.sweeps.bodies import SweepCreate
from modelyard.domain.sweeps.checks import check_grid, check_pruning, check_space, try_ends, try_job
from modelyard.domain.sweeps.repository import list_trials
from modelyard.domain.sweeps.states import SweepState, TrialState
from modelyard.domain.sweeps.tables import Sweep
from modelyard.kit.database import read_clock
from modelyard.kit.identifiers import new_id


def create_sweep(session: Session, project_id: str, body: SweepCreate) -> Sweep:
    """Make a sweep whose job and ranges have been tried. Raises what a submission raises, and `InvalidRequest`."""
    job, inputs = body.job_as_given(), try_job(session, project_id, body.job)
    check_space(job, body.parameters)
    try_ends(session, project_id, job, body.parameters)
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
