"""Which checkpoints of a job stay, and why: decisions over plain data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from modelyard.domain.specs.optimization import CheckpointsSpec


@dataclass(frozen=True)
class Saved:
    """A stored checkpoint, as far as keeping it matters."""

    id: str
    metrics: dict[str, float | None]
    is_needed: bool = False
    """Whether an open job begins at it."""
    is_whole: bool = True
    """False where what is stored was found damaged: it is nobody's best."""


class Keep(StrEnum):
    """Why a checkpoint stays: a closed list."""

    NEWEST = "newest"
    RECENT = "recent"
    """One of the newest `keep_last`."""
    BEST = "best"
    """One of the best `keep_best`."""
    NEEDED = "needed"
    """An open job begins at it."""


def choose_surplus(newest_first: Sequence[Saved], wanted: CheckpointsSpec) -> list[str]:
    """Return the ids of those to remove. Pure. The newest always stays."""
    kept = say_why_kept(newest_first, wanted)
    return [each.id for each in newest_first if not kept[each.id]]


def say_why_kept(newest_first: Sequence[Saved], wanted: CheckpointsSpec) -> dict[str, list[Keep]]:
    """Return for each checkpoint the reasons to keep it, none for one to remove. Pure."""
    best = {each.id for each in rank(newest_first, wanted.metric)[: wanted.keep_best]}
    return {
        each.id: [
            reason
            for reason, holds in (
                (Keep.NEWEST, place == 0),
                (Keep.RECENT, 0 < place < wanted.keep_last),
                (Keep.BEST, each.id in best),
                (Keep.NEEDED, each.is_needed),
            )
            if holds
        ]
        for place, each in enumerate(newest_first)
    }


def rank(newest_first: Sequence[Saved], metric: str) -> list[Saved]:
    """Return those that are whole and measured the metric, the best first. Pure. Of equals the newer one is better."""
    measured = [
        (value, each) for each in newest_first if each.is_whole and (value := _finite(each.metrics.get(metric))) is not None
    ]
    return [each for _, each in sorted(measured, key=lambda pair: pair[0])]


def _finite(value: float | None) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None
