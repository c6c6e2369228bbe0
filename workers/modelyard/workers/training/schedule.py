"""The learning rate as a function of the step: nothing to save, nothing to resume."""

import math


def warmup_steps(steps: int, warmup_ratio: float) -> int:
    """Return how many of the steps warm up."""
    return math.ceil(steps * warmup_ratio)


def learning_rate_at(step: int, steps: int, peak: float, warmup_ratio: float, floor: float = 0.1) -> float:
    """Return the rate of a step counted from 0: linear warm-up to `peak`, cosine decay to `floor` × `peak`.

    Cosine: Loshchilov & Hutter 2016 (arXiv:1608.03983); a tenth of the peak at the end: Hoffmann et al. 2022
    (arXiv:2203.15556).
    """
    warmup = warmup_steps(steps, warmup_ratio)
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - 1 - warmup)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))
