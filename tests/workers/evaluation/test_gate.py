"""The gate as a table."""

import pytest

from modelyard.domain.specs.evaluation import GateSpec
from modelyard.workers.evaluation.gate import decide_gate
from modelyard.workers.statistics import Interval


@pytest.mark.parametrize(
    ("low", "high", "min_gain", "passed", "words"),
    [
        (0.1, 0.3, 0.0, True, "lies above 0"),
        (-0.1, 0.3, 0.0, False, "does not lie above 0"),
        (-0.3, -0.1, 0.0, False, "lies below 0"),
        (0.0, 0.0, 0.0, False, "does not lie above 0"),
        (0.05, 0.3, 0.1, False, "does not lie above 0.1"),
        (0.1, 0.3, 0.1, False, "does not lie above 0.1"),
        (-0.05, 0.3, -0.1, True, "lies above -0.1"),
    ],
)
def test_gate(low: float, high: float, min_gain: float, passed: bool, words: str) -> None:
    interval = Interval(gain=(low + high) / 2, low=low, high=high, confidence=0.95)
    decision = decide_gate(interval, GateSpec(metric="rouge_l", min_gain=min_gain))
    assert decision.passed is passed
    assert words in decision.reason
    assert "rouge_l" in decision.reason
