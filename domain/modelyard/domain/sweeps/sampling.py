"""Choosing the parameters of a trial with Optuna, from what the trials before it came to.

No study is kept: it is rebuilt each time from our own rows, and the sampler is seeded by sweep and number. So the same rows
give the same choice, whoever asks, however often it was restarted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelyard.domain.sweeps.space import Choices, FloatRange, IntRange, Space, pick_from_grid

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

SEED_STRIDE = 1_000_003
"""Seeds of one sweep's trials lie next to each other, those of two sweeps far apart."""


@dataclass(frozen=True)
class Tried:
    """A trial as the sampler sees it."""

    parameters: Mapping[str, Any]
    values: Mapping[int, float] = field(default_factory=dict)
    """Step -> the metric there; NaN where it was not finite."""
    value: float | None = None
    """The metric at its end, if it came there."""
    is_running: bool = False


def propose(space: Space, sampler: str, minimizes: bool, seed: int, tried: Sequence[Tried]) -> dict[str, Any]:
    """Choose the parameters of the next trial: place -> value."""
    if sampler == "grid":
        return dict(pick_from_grid(space, len(tried)))
    # Imported only while a sweep is open: neither the API nor the command line needs it.
    import optuna
    from optuna.study import StudyDirection

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {place: _distribution(parameter) for place, parameter in space.items()}
    direction = StudyDirection.MINIMIZE if minimizes else StudyDirection.MAXIMIZE
    study = optuna.create_study(direction=direction, sampler=_sampler(sampler, seed * SEED_STRIDE + len(tried)))
    study.add_trials([_freeze(each, distributions) for each in tried])
    return dict(study.ask(distributions).params)


def _sampler(name: str, seed: int) -> "BaseSampler":
    from optuna.samplers import RandomSampler, TPESampler

    return RandomSampler(seed=seed % 2**32) if name == "random" else TPESampler(seed=seed % 2**32)


def _distribution(parameter: FloatRange | IntRange | Choices) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(parameter, Choices):
        return CategoricalDistribution(parameter.choices)
    kind = FloatDistribution if isinstance(parameter, FloatRange) else IntDistribution
    return kind(parameter.low, parameter.high, log=parameter.log, step=parameter.step)  # type: ignore[arg-type]


def _freeze(tried: Tried, distributions: dict[str, "BaseDistribution"]) -> "FrozenTrial":
    """A trial that failed is one pruned before its first value: the sampler takes it for worse than all others."""
    from optuna.trial import TrialState, create_trial

    state = TrialState.RUNNING if tried.is_running else TrialState.PRUNED if tried.value is None else TrialState.COMPLETE
    return create_trial(
        state=state,
        value=tried.value,
        params=dict(tried.parameters),
        distributions=distributions,
        intermediate_values=dict(tried.values),
    )
