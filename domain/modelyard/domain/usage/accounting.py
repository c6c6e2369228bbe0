"""What came of an attempt's time: a pure split of its slot-seconds."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from modelyard.domain.jobs.lifecycle import Outcome


@dataclass(frozen=True)
class AttemptTimeline:
    """The moments of one attempt, in seconds since the epoch."""

    slots: int
    started_at: float
    finished_at: float
    """For a running attempt: now."""
    first_step_at: float | None = None
    last_step_at: float | None = None
    saved_at: float | None = None
    """When the newest checkpoint that was stored had been written."""
    outcome: str | None = None
    """None while it runs."""
    goes_on: bool = False
    """Whether another attempt of the job follows, or may follow after a pause."""
    lost: tuple[tuple[float, float], ...] = ()
    """From when until when it did steps that it threw away itself, going back to its last checkpoint."""


@dataclass(frozen=True)
class Split:
    """Slot-seconds by what came of them; their sum is slots × (finished − started)."""

    starting: float = 0.0
    useful: float = 0.0
    redone: float = 0.0
    idle: float = 0.0
    failed: float = 0.0

    @property
    def total(self) -> float:
        """All slot-seconds held."""
        return self.starting + self.useful + self.redone + self.idle + self.failed

    def __add__(self, other: "Split") -> "Split":
        return Split(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


def account(timeline: AttemptTimeline) -> Split:
    """Split the slot-seconds of an attempt. Pure.

    Claim to first step is starting; from the last step to the end is idle. The steps between are useful as far as they were
    kept: all of them if it succeeded or still runs, else up to the newest checkpoint; but those it went back behind were
    redone by itself. The rest is redone by the next attempt. If there is none, it has failed, and so has the start if
    nothing at all was kept.
    Event times come from another clock, so they are put in order first.
    """
    start, end = timeline.started_at, max(timeline.started_at, timeline.finished_at)
    first = _between(start, timeline.first_step_at, end, missing=end)
    last = _between(first, timeline.last_step_at, end, missing=first)
    if timeline.outcome is None:
        last = end  # whether it hangs is not known yet
    kept = last if timeline.outcome in {None, Outcome.SUCCEEDED} else _between(first, timeline.saved_at, last, missing=first)
    lost = _overlap(timeline.lost, first, kept)
    spans = {"useful": max(kept - first - lost, 0.0), "redone": lost, "idle": end - last}
    is_wasted = kept == first and timeline.outcome not in {None, Outcome.SUCCEEDED} and not timeline.goes_on
    if timeline.goes_on:
        spans |= {"starting": first - start, "redone": lost + last - kept}
    elif is_wasted:
        spans |= {"failed": last - start}
    else:
        spans |= {"starting": first - start, "failed": last - kept}
    return Split(**{name: timeline.slots * seconds for name, seconds in spans.items()})


def _overlap(stretches: Sequence[tuple[float, float]], low: float, high: float) -> float:
    """Seconds between two moments that lie in any of the stretches, each counted once."""
    covered, at = 0.0, low
    for start, end in sorted(stretches):
        upto = min(end, high)
        covered += max(upto - max(start, at), 0.0)
        at = max(at, upto)
    return covered


def _between(low: float, value: float | None, high: float, missing: float) -> float:
    return missing if value is None else min(max(low, value), high)
