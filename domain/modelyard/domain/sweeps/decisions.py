"""What to do next about a sweep: one decision at a time over plain facts. Pure.

In this order: note what became of jobs; end everything once it is cancelled or used up; give out work while there is room.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.sweeps.halving import Entrant, find_last_hope, find_promotable
from modelyard.domain.sweeps.states import SweepState, TrialState
from modelyard.domain.sweeps.views import JobView, SweepView, TrialView, find_furthest

FAILURES_BEFORE_GIVING_UP = 3
"""So many trials that failed before any trial came to a value are not bad luck: all would."""


@dataclass(frozen=True)
class Note:
    """Write down what became of a trial's job."""

    number: int
    state: TrialState
    step: int | None = None
    value: float | None = None
    message: str | None = None


@dataclass(frozen=True)
class Create:
    """Make the next trial."""

    number: int
    pause_at_step: int | None


@dataclass(frozen=True)
class Promote:
    """Let a waiting trial go on, to the next rung or to its end."""

    number: int
    pause_at_step: int | None


@dataclass(frozen=True)
class End:
    """Cancel a trial's job."""

    number: int
    keep_checkpoint: bool
    why: str


@dataclass(frozen=True)
class Close:
    """Give the sweep its final state."""

    state: SweepState
    best: int | None
    message: str | None


Action = Note | Create | Promote | End | Close


def decide(sweep: SweepView, trials: Sequence[TrialView]) -> Action | None:
    """The next thing to do; None if there is nothing to do now."""
    for trial in trials:
        note = _note(sweep, trial)
        if note is not None:
            return note
    why = find_reason_to_end(sweep, trials)
    if why is not None:
        return _end(sweep, trials, why)
    if sweep.state is SweepState.PAUSED:
        return None
    return _give_out(sweep, trials) or (_end(sweep, trials, None) if not _count_running(trials) else None)


def find_best(sweep: SweepView, trials: Sequence[TrialView]) -> int | None:
    """Number of the best trial: of the finished ones, else of those that came furthest; of equals the earlier one."""
    ranked = []
    for trial in trials:
        step, value = find_furthest(trial.results)
        if math.isfinite(value):
            behind = -math.inf if trial.state is TrialState.FINISHED else -step
            ranked.append((behind, _loss(sweep, value), trial.number))
    return min(ranked)[2] if ranked else None


def find_reason_to_end(sweep: SweepView, trials: Sequence[TrialView]) -> str | None:
    """Why no more work is given out and what runs is ended; None if that is not so."""
    if sweep.state is SweepState.CANCELLING:
        return "cancelled"
    if sweep.max_gpu_hours is not None and sweep.gpu_hours >= sweep.max_gpu_hours:
        return f"the sweep used {sweep.gpu_hours:.3g} of {sweep.max_gpu_hours:.3g} GPU-hours"
    failed = [trial for trial in trials if trial.state is TrialState.FAILED]
    hopeless = len(failed) >= max(FAILURES_BEFORE_GIVING_UP, sweep.parallel) and not any(trial.results for trial in trials)
    return f"the first {len(failed)} trials failed: {failed[0].message}" if hopeless else None


def _note(sweep: SweepView, trial: TrialView) -> Note | None:
    job = trial.job
    if trial.state.is_over() or job is None:
        return None
    if job.state is JobState.CANCELLED:
        return Note(trial.number, TrialState.STOPPED, message="its job was cancelled")
    if job.state in {JobState.FAILED, JobState.QUARANTINED}:
        return Note(trial.number, TrialState.FAILED, message=job.message)
    if trial.state is TrialState.WAITING:
        return None
    if job.state is JobState.SUCCEEDED:
        return _note_value(sweep, trial, job, TrialState.FINISHED, job.step)
    rung = _next_rung(sweep, trial)
    if job.state is JobState.PAUSED and rung is not None and (job.step == rung or (job.saved_step or 0) >= rung):
        return _note_value(sweep, trial, job, TrialState.WAITING, rung)
    return None


def _note_value(sweep: SweepView, trial: TrialView, job: JobView, state: TrialState, step: int | None) -> Note:
    if job.value is None or job.step != step:
        return Note(
            trial.number,
            TrialState.FAILED,
            message=f"it reported no metric {sweep.metric!r} there; set `metric` to one that it reports",
        )
    return Note(trial.number, state, step, job.value)


def _give_out(sweep: SweepView, trials: Sequence[TrialView]) -> Action | None:
    running = _count_running(trials)
    if running >= sweep.parallel:
        return None
    entrants = [_entrant(sweep, trial) for trial in trials]
    promoted = find_promotable(entrants, sweep.rungs, sweep.reduction_factor)
    if promoted is None and len(trials) < sweep.trials:
        return Create(len(trials), sweep.rungs[0] if sweep.rungs else None)
    if promoted is None and not running and not any(trial.state is TrialState.FINISHED for trial in trials):
        promoted = find_last_hope(entrants, sweep.rungs)
    return Promote(promoted, _next_rung(sweep, trials[promoted])) if promoted is not None else None


def _end(sweep: SweepView, trials: Sequence[TrialView], why: str | None) -> Action | None:
    """End one trial after the other, then, when all their jobs are over, the sweep. `why` None: it has done what it was to do."""
    best = find_best(sweep, trials)
    for trial in trials:
        if not trial.state.is_over():
            keeps = trial.number == best or sweep.state is SweepState.CANCELLING
            return End(trial.number, keeps, why or "others were better")
    if any(trial.job is not None and not trial.job.state.is_finished() for trial in trials):
        return None
    if sweep.state is SweepState.CANCELLING:
        return Close(SweepState.CANCELLED, best, None)
    return Close(SweepState.FAILED if best is None else SweepState.SUCCEEDED, best, why or _say_nothing_came(trials, best))


def _say_nothing_came(trials: Sequence[TrialView], best: int | None) -> str | None:
    if best is not None:
        return None
    return next((f"trial {each.number}: {each.message}" for each in trials if each.message), "no trial came to a value")


def _entrant(sweep: SweepView, trial: TrialView) -> Entrant:
    losses = {step: _loss(sweep, trial.results[step]) for step in sweep.rungs if step in trial.results}
    return Entrant(trial.number, losses, trial.state is TrialState.WAITING, trial.state is TrialState.FAILED)


def _loss(sweep: SweepView, value: float) -> float:
    if not math.isfinite(value):
        return math.inf
    return value if sweep.minimizes else -value


def _next_rung(sweep: SweepView, trial: TrialView) -> int | None:
    """The step it pauses at next; None if it runs to its end."""
    return next((step for step in sweep.rungs if step not in trial.results), None)


def _count_running(trials: Sequence[TrialView]) -> int:
    return sum(trial.state is TrialState.RUNNING for trial in trials)
