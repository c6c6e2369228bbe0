"""A sweep, its trials and their jobs as plain facts, for decisions that are pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.sweeps.states import SweepState, TrialState


@dataclass(frozen=True)
class JobView:
    """The job of a trial."""

    state: JobState
    message: str | None = None
    saved_step: int | None = None
    """Step of its newest checkpoint."""
    step: int | None = None
    """The newest step it reported the metric at; None if it never did."""
    value: float | None = None
    """The metric there; NaN where it was not finite."""


@dataclass(frozen=True)
class TrialView:
    """A trial and its job."""

    number: int
    state: TrialState = TrialState.RUNNING
    results: Mapping[int, float] = field(default_factory=dict)
    """Step -> the metric there, of rungs and the end; NaN where it was not finite."""
    job: JobView | None = None
    message: str | None = None


@dataclass(frozen=True)
class SweepView:
    """A sweep as a decision needs it."""

    state: SweepState
    metric: str
    minimizes: bool
    trials: int
    parallel: int
    rungs: Sequence[int] = ()
    reduction_factor: int = 2
    gpu_hours: float = 0.0
    """Used so far, running attempts included."""
    max_gpu_hours: float | None = None


def find_furthest(results: Mapping[int, float]) -> tuple[int, float]:
    """The furthest step with a value, and the value; step -1 and NaN before the first."""
    step = max(results, default=-1)
    return step, results.get(step, math.nan)
