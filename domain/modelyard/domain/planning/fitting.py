"""A configuration that fits when this one does not: changes tried one after the other, the least harmful first. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelyard.domain.planning.setups import Setup

Changes = Mapping[str, Any]
"""Dotted place in the job -> new value, e.g. `spec.micro_batch_size`."""


@dataclass(frozen=True)
class Step:
    """One thing that could be changed, and what it costs."""

    changes: Changes
    why: str


Move = Callable[[Setup], Step | None]
"""The next step of one kind; None where there is no more."""


@dataclass(frozen=True)
class Tried:
    """A job as it would be after some changes."""

    setup: Setup
    rank_bytes: int
    """Memory of one rank."""
    fits: bool


@dataclass(frozen=True)
class Suggestion:
    """Changes that together make the job fit."""

    changes: Changes
    why: tuple[str, ...]
    rank_bytes: int
    """Memory of one rank then."""


Attempt = Callable[[Changes], Tried | None]
"""The job after some changes; None where it would be wrong that way."""


def suggest(start: Tried, moves: Sequence[Move], attempt: Attempt) -> Suggestion | None:
    """Add one change to the other until the job fits; then take back those it fits without. None if nothing helps."""
    now, taken = start, list[Step]()
    for move in moves:
        while not now.fits and (step := move(now.setup)) is not None:
            tried = attempt(_merge([*taken, step]))
            if tried is None or tried.rank_bytes >= now.rank_bytes:
                break
            taken, now = [*(each for each in taken if set(each.changes) != set(step.changes)), step], tried
    return _take_back(taken, now, attempt) if now.fits and taken else None


def _take_back(taken: list[Step], now: Tried, attempt: Attempt) -> Suggestion:
    """The last change may have done most: leave out what the job fits without, the most harmful first."""
    for step in reversed(taken[:-1]):
        others = [each for each in taken if each is not step]
        if set(step.changes).isdisjoint(_merge(others)):
            tried = attempt(_merge(others))
            if tried is not None and tried.fits:
                taken, now = others, tried
    return Suggestion(_merge(taken), tuple(step.why for step in taken), now.rank_bytes)


def _merge(steps: Sequence[Step]) -> dict[str, Any]:
    return {place: value for step in steps for place, value in step.changes.items()}
