"""Sweeps as clients see them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import ConfigDict
from sqlmodel import Session

from modelyard.api.times import Time
from modelyard.domain.jobs.tables import Job
from modelyard.domain.sweeps.repository import count_states, list_trials, sum_hours
from modelyard.domain.sweeps.situation import read_results, view_sweep
from modelyard.domain.sweeps.tables import Sweep, Trial
from modelyard.domain.sweeps.views import find_furthest
from modelyard.kit.documented import Documented


class SweepPublic(Documented):
    """A sweep."""

    model_config = ConfigDict(from_attributes=True)

    object: Literal["sweep"] = "sweep"
    id: str
    name: str
    state: str
    """`running`, `paused`, `cancelling`, then `succeeded`, `failed` or `cancelled`."""
    message: str | None
    job: dict[str, Any]
    parameters: dict[str, Any]
    metric: str
    direction: str
    sampler: str
    trials: int
    """Trials made at most."""
    parallel: int
    pruning: dict[str, Any] | None
    rungs: list[int] = []
    """Steps after which trials pause."""
    max_gpu_hours: float | None
    promote: str | None
    seed: int
    best: int | None
    """Number of the best trial so far."""
    promoted: dict[str, Any] | None
    """What was registered under `promote`."""
    trial_counts: dict[str, int] = {}
    """State -> how many trials are in it."""
    created_at: Time
    finished_at: Time | None


class TrialPublic(Documented):
    """One trial of a sweep."""

    object: Literal["trial"] = "trial"
    number: int
    state: str
    """`running`, `waiting` (paused at a rung), `finished`, `stopped` or `failed`."""
    parameters: dict[str, Any]
    results: dict[str, float | None]
    """Step -> the metric there; null for NaN and infinity."""
    value: float | None
    """The metric at the furthest step it came to."""
    step: int | None
    job_id: str | None
    job_state: str | None
    progress: float
    gpu_hours: float
    message: str | None
    created_at: Time
    finished_at: Time | None


class SweepDetail(SweepPublic):
    """A sweep with its trials."""

    gpu_hours: float
    """Slot-hours of all trials so far, running attempts included."""
    items: list[TrialPublic]
    """The trials, by number."""


def show_sweeps(session: Session, sweeps: Sequence[Sweep]) -> list[SweepPublic]:
    """Sweeps with the numbers of their trials, one query for all."""
    counts = count_states(session, [sweep.id for sweep in sweeps])
    return [SweepPublic.model_validate(_facts(sweep, counts[sweep.id])) for sweep in sweeps]


def show_sweep(session: Session, sweep: Sweep) -> SweepDetail:
    """A sweep with its trials."""
    hours = sum_hours(session, sweep.id)
    items = [_show_trial(trial, job, hours) for trial, job in list_trials(session, sweep.id)]
    counts = count_states(session, [sweep.id])[sweep.id]
    return SweepDetail.model_validate({**_facts(sweep, counts), "gpu_hours": sum(hours.values()), "items": items})


def _facts(sweep: Sweep, counts: dict[str, int]) -> dict[str, Any]:
    return {**sweep.model_dump(), "rungs": list(view_sweep(sweep).rungs), "trial_counts": counts}


def _show_trial(trial: Trial, job: Job | None, hours: Mapping[str, float]) -> TrialPublic:
    step, _ = find_furthest(read_results(trial))
    return TrialPublic(
        number=trial.number,
        state=trial.state,
        parameters=trial.parameters,
        results=trial.results,
        value=trial.results.get(str(step)),
        step=step if step >= 0 else None,
        job_id=trial.job_id,
        job_state=job.state if job else None,
        progress=job.progress if job else 0.0,
        gpu_hours=hours.get(str(trial.job_id), 0.0),
        message=trial.message or (job.message if job else None),
        created_at=trial.created_at,
        finished_at=trial.finished_at,
    )
