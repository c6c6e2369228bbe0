"""How long a job will run, from runs before: a pure reckoning over their figures."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

ALIKE = 4.0
"""A run whose step was up to so many times more or less work says something about this one."""
SAME = 1.05
"""Up to so many times more or less work per step is the same shape: such runs alone count if there are any."""


@dataclass(frozen=True)
class PastRun:
    """A job of the same kind that succeeded."""

    seconds: float
    """From its start to its end."""
    steps: int | None = None
    step_seconds: float | None = None
    """Median time of a step, validations and checkpoints between steps not counted."""
    operations: float | None = None
    """Floating-point operations of one rank in one step."""
    accelerator: str = "cpu"
    ranks: int = 1


@dataclass(frozen=True)
class Duration:
    """Seconds from start to end: likely, and between what bounds; or None and why nothing can be said."""

    expected_seconds: float | None
    low_seconds: float | None
    high_seconds: float | None
    basis: str
    step_seconds: float | None = None

    @classmethod
    def unknown(cls, why: str) -> "Duration":
        """Nothing can be said."""
        return cls(None, None, None, why)


def predict_duration(past: Sequence[PastRun], kind: str) -> Duration:
    """A kind without a formula takes as long as its runs before did: median, and between the quartiles."""
    if not past:
        return Duration.unknown(f"no past run: no {kind} job of this project has succeeded yet")
    return _between([run.seconds for run in past], f"{_count(past)} of {kind}, whatever its size")


def predict_training(past: Sequence[PastRun], kind: str, steps: int, operations: float, accelerator: str, ranks: int) -> Duration:
    """Training: the time of a step grows with its work, what comes before and after the steps is as it was.

    Only runs on the same accelerator and as many ranks, whose steps were of comparable work, count.
    """
    comparable = [run for run in past if run.accelerator == accelerator and run.ranks == ranks and _ratio(run, operations)]
    alike = [run for run in comparable if 1 / ALIKE <= _ratio(run, operations) <= ALIKE]
    same = [run for run in alike if 1 / SAME <= _ratio(run, operations) <= SAME]
    chosen = same or alike
    if not chosen:
        what = f"with steps of comparable work on {ranks} {accelerator.upper()} rank{'s' * (ranks > 1)}"
        return Duration.unknown(f"no past run: no {kind} {what} has succeeded in this project yet; ask for a probe")
    times = [(run.step_seconds or 0.0) * _ratio(run, operations) for run in chosen]
    totals = [
        max(run.seconds - (run.steps or 0) * (run.step_seconds or 0.0), 0.0) + steps * time
        for run, time in zip(chosen, times, strict=True)
    ]
    how = "of the same work per step" if same else "scaled by the work of a step"
    return _between(totals, f"{_count(chosen)} of {kind}, {how}", statistics.median(times))


def _ratio(run: PastRun, operations: float) -> float:
    """How many times more work a step is than that run's; 0 where that is not known."""
    return operations / run.operations if run.operations and run.steps and run.step_seconds else 0.0


def _between(seconds: Sequence[float], basis: str, step_seconds: float | None = None) -> Duration:
    ordered = sorted(seconds)
    low, high = ordered[(len(ordered) - 1) // 4], ordered[-1 - (len(ordered) - 1) // 4]
    return Duration(statistics.median(ordered), low, high, f"from {basis}", step_seconds)


def _count(past: Sequence[PastRun]) -> str:
    return "one past run" if len(past) == 1 else f"{len(past)} past runs"
