"""Asynchronous successive halving: which trial is worth more steps. Pure. Li et al. 2020, arXiv:1810.05934.

Optuna's pruner ends what is not among the best when it comes to a rung. Here such a trial only pauses: it holds no slot, and
goes on from its checkpoint if it turns out to be among the best once more have come so far, as the paper has it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entrant:
    """A trial as halving sees it. Losses: smaller is better, infinite for NaN."""

    number: int
    losses: Mapping[int, float] = field(default_factory=dict)
    """Step of a rung it reached -> its loss there."""
    is_waiting: bool = False
    """Whether it paused at the last rung it reached."""
    has_failed: bool = False
    """It counts as the worst of the rung it was on its way to."""


def list_rungs(min_steps: int, reduction_factor: int, steps: int) -> list[int]:
    """Steps after which trials pause: `min_steps × reduction_factor^k`, below the job's own end."""
    rungs, step = [], min_steps
    while step < steps:
        rungs.append(step)
        step *= reduction_factor
    return rungs


def find_promotable(entrants: Sequence[Entrant], rungs: Sequence[int], reduction_factor: int) -> int | None:
    """Number of the trial to promote, from the highest rung that has one; None if all that deserve it went on already."""
    for position in reversed(range(len(rungs))):
        ranked = rank_at(entrants, rungs, position)
        best = ranked[: len(ranked) // reduction_factor]
        for entrant in best:
            if waits_at(entrant, rungs, position) and math.isfinite(entrant.losses[rungs[position]]):
                return entrant.number
    return None


def find_last_hope(entrants: Sequence[Entrant], rungs: Sequence[int]) -> int | None:
    """The best trial that waits on the highest rung where one does: it goes on where too few were tried to halve them."""
    for position in reversed(range(len(rungs))):
        for entrant in rank_at(entrants, rungs, position):
            if waits_at(entrant, rungs, position) and math.isfinite(entrant.losses[rungs[position]]):
                return entrant.number
    return None


def rank_at(entrants: Sequence[Entrant], rungs: Sequence[int], position: int) -> list[Entrant]:
    """Those that reached a rung or failed on their way to it, best first; of equals the earlier one."""
    reached = [each for each in entrants if rungs[position] in each.losses or _failed_before(each, rungs, position)]
    return sorted(reached, key=lambda each: (each.losses.get(rungs[position], math.inf), each.number))


def waits_at(entrant: Entrant, rungs: Sequence[int], position: int) -> bool:
    """Whether this rung is the last one it reached, and it waits there."""
    return entrant.is_waiting and len(entrant.losses) == position + 1


def _failed_before(entrant: Entrant, rungs: Sequence[int], position: int) -> bool:
    return entrant.has_failed and len(entrant.losses) == position
