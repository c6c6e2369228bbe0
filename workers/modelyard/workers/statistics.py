"""Confidence intervals for the difference of two systems on the same items."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A gain and where it lies with the given confidence; the unit is the metric's own."""

    gain: float
    low: float
    high: float
    confidence: float

    def as_dict(self) -> dict[str, float]:
        """Return plain data for JSON."""
        return asdict(self)


def bootstrap_gain(
    gains: Numbers, weights: Numbers | None = None, *, samples: int = 2000, confidence: float = 0.95, seed: int = 17
) -> Interval:
    """Interval of `sum(gains) / sum(weights)` by the paired percentile bootstrap over items.

    `gains` (items,): candidate against base on each item. `weights` (items,): ones for a mean of items, or the tokens of
    each item, which makes the statistic a mean per token while whole items are drawn: tokens of one answer are not
    independent. Efron & Tibshirani 1993, chapter 13; Koehn 2004, "Statistical Significance Tests for Machine
    Translation Evaluation".
    """
    weights = np.ones_like(gains) if weights is None else weights
    if len(gains) < 2 or len(gains) != len(weights):
        raise ValueError(f"an interval needs 2 or more items and a weight for each, not {len(gains)} and {len(weights)}")
    draws = np.random.default_rng(seed).integers(0, len(gains), size=(samples, len(gains)))  # (samples, items)
    statistics = gains[draws].sum(axis=1) / weights[draws].sum(axis=1)  # (samples,)
    tail = (1 - confidence) / 2
    low, high = np.quantile(statistics, [tail, 1 - tail])
    return Interval(float(gains.sum() / weights.sum()), float(low), float(high), confidence)
