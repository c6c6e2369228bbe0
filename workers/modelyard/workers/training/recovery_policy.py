"""Whether a training goes on, goes back or fails, by what its newest step came to: decided over plain data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from modelyard.domain.specs.recovery import RecoverySpec

Action = Literal["go_on", "note", "roll_back", "fail"]
NORMAL = 1.4826
"""Standard deviations of a normal distribution in one median absolute deviation."""


@dataclass(frozen=True)
class History:
    """What is remembered between steps."""

    losses: tuple[float, ...] = ()
    """The window: what was not high, newest last."""
    high: tuple[float, ...] = ()
    """High losses in a row, up to the newest step."""
    rollbacks: int = 0


@dataclass(frozen=True)
class Reading:
    """What a step came to, over all ranks."""

    loss: float
    gradient_norm: float
    are_weights_finite: bool = True
    scales_loss: bool = False
    """Whether an overflow of the gradients only means that the scale of the loss was too large."""


@dataclass(frozen=True)
class Verdict:
    """What to do, and why."""

    action: Action
    history: History
    why: str = ""
    bad_steps: int = 0
    """How many of the newest steps are to blame."""


def judge(spec: RecoverySpec, history: History, reading: Reading) -> Verdict:
    """Decide what follows from a step. Pure."""
    broken = find_not_finite(reading)
    if broken is not None:
        may_go_back = spec.on_not_finite == "roll_back" and history.rollbacks < spec.max_rollbacks
        return Verdict("roll_back" if may_go_back else "fail", history, broken, bad_steps=1)
    if spec.on_spike == "ignore":
        return Verdict("go_on", history)
    if not is_high(spec, history.losses, reading.loss):
        return Verdict("go_on", _accept(spec, history, (*history.high, reading.loss)))
    high = (*history.high, reading.loss)
    if len(high) < spec.spike_steps:
        return Verdict("go_on", History(history.losses, high, history.rollbacks))
    why = (
        f"the loss rose to {reading.loss:.4g} and stayed high for {len(high)} steps, "
        f"from a median of {median(history.losses):.4g} over the {len(history.losses)} before"
    )
    action = "note" if spec.on_spike == "roll_back" and history.rollbacks >= spec.max_rollbacks else spec.on_spike
    # What is noted is the new level: it is told once, not at every step.
    return Verdict(action, _accept(spec, history, high), why, bad_steps=len(high))


def find_not_finite(reading: Reading) -> str | None:
    """Say what of a step is no number; None if all is well. Pure."""
    # DeepSpeed's norm of groups that overflow is -1.
    is_norm_right = math.isfinite(reading.gradient_norm) and reading.gradient_norm >= 0
    if not math.isfinite(reading.loss) or not (is_norm_right or reading.scales_loss):
        return f"the loss is {reading.loss} and the gradient norm {reading.gradient_norm}"
    return None if reading.are_weights_finite else "the weights are no longer finite"


def is_high(spec: RecoverySpec, losses: Sequence[float], loss: float) -> bool:
    """Whether a loss stands out from a window of losses. Pure."""
    if len(losses) < spec.spike_window // 2 or loss <= max(losses):
        return False
    middle = median(losses)
    spread = NORMAL * median(abs(each - middle) for each in losses)
    # Losses that do not vary, such as zero for answers that were all alike, say nothing of what is unusual.
    return spread > 0 and loss - middle > spec.spike_score * spread


def _accept(spec: RecoverySpec, history: History, losses: tuple[float, ...]) -> History:
    return History((*history.losses, *losses)[-spec.spike_window :], (), history.rollbacks)
