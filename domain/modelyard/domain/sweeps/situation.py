"""What is known about a sweep now, read in one session, as its decisions see it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from sqlmodel import Session

from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.tables import Job
from modelyard.domain.sweeps.halving import list_rungs
from modelyard.domain.sweeps.repository import find_newest_point, find_saved_step, list_trials, sum_hours
from modelyard.domain.sweeps.sampling import Tried
from modelyard.domain.sweeps.space import Parameter, Space
from modelyard.domain.sweeps.states import SweepState, TrialState
from modelyard.domain.sweeps.tables import Sweep, Trial
from modelyard.domain.sweeps.views import JobView, SweepView, TrialView

_SPACE: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Parameter])


@dataclass(frozen=True)
class Situation:
    """A sweep and its trials, and the revision that what is decided from them holds for."""

    id: str
    revision: int
    sweep: SweepView
    trials: Sequence[TrialView]


def inquire(session: Session, sweep: Sweep) -> Situation:
    """Everything a decision about a sweep rests on."""
    # The revision was read before everything else: whoever changes a trial after that raises it.
    rows = list_trials(session, sweep.id)
    view = view_sweep(sweep, sum(sum_hours(session, sweep.id).values()))
    trials = [view_trial(trial, _view_job(session, sweep, trial, job)) for trial, job in rows]
    return Situation(sweep.id, sweep.revision, view, trials)


def view_sweep(sweep: Sweep, gpu_hours: float = 0.0) -> SweepView:
    """A sweep's row as decisions see it."""
    pruning = sweep.pruning
    rungs = list_rungs(pruning["min_steps"], pruning["reduction_factor"], pruning["steps"]) if pruning else []
    return SweepView(
        state=SweepState(sweep.state),
        metric=sweep.metric,
        minimizes=sweep.direction == "minimize",
        trials=sweep.trials,
        parallel=sweep.parallel,
        rungs=rungs,
        reduction_factor=pruning["reduction_factor"] if pruning else 2,
        gpu_hours=gpu_hours,
        max_gpu_hours=sweep.max_gpu_hours,
    )


def view_trial(trial: Trial, job: JobView | None = None) -> TrialView:
    """A trial's row as decisions see it."""
    return TrialView(trial.number, TrialState(trial.state), read_results(trial), job, trial.message)


def read_results(trial: Trial) -> dict[int, float]:
    """Step -> value, NaN where it was not finite."""
    return {int(step): math.nan if value is None else value for step, value in trial.results.items()}


def list_tried(session: Session, sweep_id: str) -> list[Tried]:
    """The trials so far as the sampler sees them."""
    return [_view_tried(trial) for trial, _ in list_trials(session, sweep_id)]


def read_space(parameters: Mapping[str, Any]) -> Space:
    """The ranges of a sweep's row."""
    return _SPACE.validate_python(parameters)


def _view_tried(trial: Trial) -> Tried:
    results, state = read_results(trial), TrialState(trial.state)
    if state is TrialState.FAILED:
        return Tried(trial.parameters)
    value = results[max(results)] if state is TrialState.FINISHED else None
    if value is not None and not math.isfinite(value):
        return Tried(trial.parameters, results)
    return Tried(trial.parameters, results, value, state is TrialState.RUNNING)


def _view_job(session: Session, sweep: Sweep, trial: Trial, job: Job | None) -> JobView | None:
    if job is None:
        return None
    state = JobState(job.state)
    # What it reported matters only where it came to a halt.
    if TrialState(trial.state) is not TrialState.RUNNING or state not in {JobState.PAUSED, JobState.SUCCEEDED}:
        return JobView(state, job.message)
    step, value = find_newest_point(session, job, sweep.metric) or (None, None)
    value = math.nan if step is not None and value is None else value
    return JobView(state, job.message, find_saved_step(session, job.id), step, value)
