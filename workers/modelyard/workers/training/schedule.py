"""The learning rate as a function of the step: nothing to save, nothing to resume."""

import math
from collections.abc import Callable


def warmup_steps(steps: int, warmup_ratio: float) -> int:
    """Return how many of the steps warm up."""
    return math.ceil(steps * warmup_ratio)


def learning_rate_at(
    step: int, steps: int, peak: float, warmup_ratio: float, floor: float = 0.1,
    scheduler: str = "cosine", decay_ratio: float = 0.2,
) -> float:  # fmt: skip
    """Return the rate of a step counted from 0: linear warm-up to `peak`, then by the scheduler to `floor` × `peak`."""
    warmup = warmup_steps(steps, warmup_ratio)
    if step < warmup:
        return peak * (step + 1) / warmup
    share = min((step - warmup) / max(1, steps - 1 - warmup), 1.0)
    height = _HEIGHTS[scheduler](share, decay_ratio)
    return peak * (floor + (1 - floor) * height)


def _wait_then_fall(share: float, decay_ratio: float) -> float:
    return min(1.0, (1 - share) / decay_ratio)


_HEIGHTS: dict[str, Callable[[float, float], float]] = {
    # Loshchilov & Hutter 2016 (arXiv:1608.03983); a tenth of the peak at the end: Hoffmann et al. 2022 (arXiv:2203.15556).
    "cosine": lambda share, _: 0.5 * (1 + math.cos(math.pi * share)),
    "linear": lambda share, _: 1 - share,
    "constant": lambda share, _: 1.0,
    # Warm up, stay, decay: Hu et al. 2024 (arXiv:2404.06395), with a linear end as in Hägele et al. 2024 (arXiv:2405.18392).
    "wsd": _wait_then_fall,
}
"""How high above the floor, 0 to 1, when so much (0 to 1) of the steps after the warm-up is done."""
