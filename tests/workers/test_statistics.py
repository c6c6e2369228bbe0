"""The bootstrap interval against scipy's."""

import numpy as np
import pytest
from scipy import stats

from modelyard.workers.statistics import bootstrap_gain


class TestBootstrapGain:
    def test_agrees_with_scipy_on_a_mean(self) -> None:
        gains = np.random.default_rng(3).normal(0.3, 1.0, size=80)
        ours = bootstrap_gain(gains, samples=20_000, confidence=0.9)
        theirs = stats.bootstrap((gains,), np.mean, n_resamples=20_000, confidence_level=0.9, method="percentile", rng=5)
        assert ours.gain == pytest.approx(gains.mean())
        assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.01)
        assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.01)

    def test_agrees_with_scipy_on_a_mean_per_token(self) -> None:
        generator = np.random.default_rng(4)
        tokens = generator.integers(3, 40, size=60).astype(float)
        gains = generator.normal(0.2, 0.5, size=60) * tokens

        def per_token(gains: np.ndarray, tokens: np.ndarray, axis: int) -> np.ndarray:
            return gains.sum(axis=axis) / tokens.sum(axis=axis)

        ours = bootstrap_gain(gains, tokens, samples=20_000)
        theirs = stats.bootstrap((gains, tokens), per_token, paired=True, n_resamples=20_000, method="percentile", rng=5)
        assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.01)
        assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.01)

    def test_covers_the_truth_about_as_often_as_it_says(self) -> None:
        generator = np.random.default_rng(7)
        intervals = [bootstrap_gain(generator.normal(1.0, 2.0, size=50), samples=400, confidence=0.9) for _ in range(300)]
        covered = sum(interval.low <= 1.0 <= interval.high for interval in intervals) / len(intervals)
        assert 0.84 <= covered <= 0.95

    def test_same_seed_same_interval(self) -> None:
        gains = np.arange(10.0)
        assert bootstrap_gain(gains, seed=1) == bootstrap_gain(gains, seed=1) != bootstrap_gain(gains, seed=2)

    def test_refuses_a_single_item(self) -> None:
        with pytest.raises(ValueError, match="2 or more items"):
            bootstrap_gain(np.ones(1))
