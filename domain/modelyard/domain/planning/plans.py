"""A plan: all that is known about a job before it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelyard.domain.jobs.prediction import Prediction
from modelyard.domain.planning.costs import Cost
from modelyard.domain.planning.disk import Disk
from modelyard.domain.planning.durations import Duration
from modelyard.domain.planning.fitting import Suggestion
from modelyard.domain.planning.reckoning import Requirement
from modelyard.domain.planning.setups import Setup
from modelyard.domain.planning.tokens import Tokens


@dataclass(frozen=True)
class Training:
    """What a formula says of a training run."""

    setup: Setup
    requirement: Requirement
    disk: Disk
    tokens: Tokens
    suggestion: Suggestion | None = None
    """What would fit, where this does not."""


@dataclass(frozen=True)
class Plan:
    """What would become of a job if it were submitted now."""

    kind: str
    name: str
    queue: str
    slots: int
    nodes: int
    inputs: Mapping[str, Mapping[str, object]]
    """What its references mean now."""
    duration: Duration
    start: Prediction
    cost: Cost
    training: Training | None = None
    why_no_training: str | None = None
    """Why there are no figures of memory, disk and tokens."""
    held: str | None = None
    """What it would be held for."""
    warnings: Sequence[str] = ()
