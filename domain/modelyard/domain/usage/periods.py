"""Stretches of time, as whole days and what is left of days at both ends. Pure."""

import math
from dataclasses import dataclass

DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Period:
    """Which attempts count: those that ended within, by the database's clock; and those that run now."""

    start: float = 0.0
    end: float | None = None


@dataclass(frozen=True)
class Days:
    """Whole days (UTC) since the epoch; `end` None: all that come."""

    first: int
    end: int | None = None


def day_of(moment: float) -> int:
    """Days since the epoch, UTC. Pure."""
    return math.floor(moment / DAY_SECONDS)


def split_period(period: Period) -> tuple[Days | None, list[Period]]:
    """The whole days of a period, if there are any, and the parts of days before and after them. Pure."""
    first = math.ceil(period.start / DAY_SECONDS)
    end = None if period.end is None else day_of(period.end)
    if period.end is not None and end is not None and end < first:
        return None, [period]
    edges = [Period(period.start, first * DAY_SECONDS)] if period.start < first * DAY_SECONDS else []
    if period.end is not None and end is not None and end * DAY_SECONDS < period.end:
        edges.append(Period(end * DAY_SECONDS, period.end))
    return (None if end == first else Days(first, end)), edges
