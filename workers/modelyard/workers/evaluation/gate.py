"""The gate: may the candidate go on? A pure decision over an interval."""

from dataclasses import asdict, dataclass
from typing import Any

from modelyard.domain.specs.evaluation import GateSpec
from modelyard.workers.statistics import Interval


@dataclass(frozen=True)
class GateDecision:
    """Whether the gate opens, and why, in words for people."""

    passed: bool
    metric: str
    min_gain: float
    interval: Interval
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def decide_gate(interval: Interval, spec: GateSpec) -> GateDecision:
    """Open the gate if and only if the whole interval of the gain lies above `min_gain`.

    Equal is not above: a candidate identical to its base has the interval [0, 0] and does not pass.
    """
    passed = interval.low > spec.min_gain
    place = "lies above" if passed else ("lies below" if interval.high < spec.min_gain else "does not lie above")
    reason = (
        f"the {interval.confidence:.0%} interval of the gain in {spec.metric}, "
        f"[{interval.low:.4f}, {interval.high:.4f}], {place} {spec.min_gain:g}"
    )
    return GateDecision(passed, spec.metric, spec.min_gain, interval, reason)
