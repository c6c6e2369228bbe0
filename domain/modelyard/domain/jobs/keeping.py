"""Which checkpoints of a job stay while it runs: a decision over plain data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.domain.specs.optimization import CheckpointsSpec


@dataclass(frozen=True)
class Saved:
    """A stored checkpoint, as far as keeping it matters."""

    id: str
    metrics: dict[str, float | None]


def choose_surplus(newest_first: Sequence[Saved], wanted: CheckpointsSpec) -> list[str]:
    """Return the ids of those to remove. Pure. The newest always stays; of equals the newer one is better."""
    kept = {each.id for each in newest_first[: wanted.keep_last]}
    measured = [(value, each.id) for each in newest_first if (value := _finite(each.metrics.get(wanted.metric))) is not None]
    best = sorted(measured, key=lambda pair: pair[0])[: wanted.keep_best]
    kept |= {id_ for _, id_ in best}
    return [each.id for each in newest_first if each.id not in kept]


def _finite(value: float | None) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None
