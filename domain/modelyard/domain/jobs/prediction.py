"""When a waiting job will likely start: a pure simulation of the slots it waits for, with durations taken from past runs."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

TELLING_PROGRESS = 0.05
"""Below this share of the way, the pace of a running job says less than its kind's past."""


@dataclass(frozen=True)
class Past:
    """How long jobs of one kind ran, in seconds."""

    typical: float
    """Median."""
    short: float
    """Lower quartile."""
    runs: int


@dataclass(frozen=True)
class Occupied:
    """A running job on a worker that serves the queue."""

    kind: str
    worker_id: str
    slots: int
    elapsed_seconds: float
    progress: float = 0.0
    job_id: str = ""
    never_ends: bool = False
    """A service: it runs until somebody stops it."""


@dataclass(frozen=True)
class Ahead:
    """A waiting job that goes first."""

    kind: str
    slots: int


@dataclass(frozen=True)
class Prediction:
    """Seconds from now, and what they rest on; or None and why nothing can be said."""

    expected_seconds: float | None
    earliest_seconds: float | None
    basis: str


def summarize(durations: Sequence[float]) -> Past | None:
    """Past durations as the figures a prediction uses. Pure."""
    if not durations:
        return None
    ordered = sorted(durations)
    return Past(statistics.median(ordered), ordered[(len(ordered) - 1) // 4], len(ordered))


def predict_start(
    slots: int, workers: Mapping[str, int], running: Sequence[Occupied], ahead: Sequence[Ahead], past: Mapping[str, Past]
) -> Prediction:
    """Predict when a job of `slots` slots starts. Pure.

    `workers`: id -> slots it lends to this queue. Jobs start in their order, each on the worker that has room first;
    that a smaller one may slip in between is left out.
    """
    unknown = sorted(({job.kind for job in ahead} | {job.kind for job in running if _needs_past(job)}) - set(past))
    if not workers:
        return Prediction(None, None, "no online worker serves the queue")
    if unknown:
        return Prediction(None, None, f"no run of {', '.join(unknown)} has succeeded yet, so nobody knows how long one takes")
    expected = _simulate(slots, workers, running, ahead, {kind: known.typical for kind, known in past.items()})
    if math.isinf(expected):
        return Prediction(None, None, "the slots it needs are held by services, which end only when somebody stops them")
    earliest = _simulate(slots, workers, running, ahead, {kind: known.short for kind, known in past.items()})
    return Prediction(expected, min(earliest, expected), _say_basis(running, ahead, past))


def remaining_seconds(job: Occupied, duration: float) -> float:
    """How long a running job still takes: by its own pace once that says something, else by a past duration. Pure."""
    if job.never_ends:
        return math.inf
    if job.progress >= TELLING_PROGRESS:
        return job.elapsed_seconds * (1.0 - job.progress) / job.progress
    return max(duration - job.elapsed_seconds, 0.0)


def _needs_past(job: Occupied) -> bool:
    return not job.never_ends and job.progress < TELLING_PROGRESS


def _simulate(
    slots: int,
    workers: Mapping[str, int],
    running: Sequence[Occupied],
    ahead: Sequence[Ahead],
    durations: Mapping[str, float],
) -> float:
    free_at = {worker: [0.0] * total for worker, total in workers.items()}
    for job in running:
        if job.worker_id in free_at:
            end = remaining_seconds(job, durations.get(job.kind, 0.0))
            _occupy(free_at[job.worker_id], job.slots, end)
    for waiting in ahead:
        worker, start = _first_room(free_at, waiting.slots)
        if math.isfinite(start):
            _occupy(free_at[worker], waiting.slots, start + durations[waiting.kind])
    return _first_room(free_at, slots)[1]


def _occupy(free_at: list[float], slots: int, until: float) -> None:
    """The slots that are free first are taken until then."""
    free_at.sort()
    free_at[:slots] = [until] * min(slots, len(free_at))
    free_at.sort()


def _first_room(free_at: Mapping[str, list[float]], slots: int) -> tuple[str, float]:
    """Which worker has so many slots free first, and when."""
    times = {worker: slot_times[slots - 1] if len(slot_times) >= slots else math.inf for worker, slot_times in free_at.items()}
    worker = min(times, key=lambda each: (times[each], each))
    return worker, times[worker]


def _say_basis(running: Sequence[Occupied], ahead: Sequence[Ahead], past: Mapping[str, Past]) -> str:
    used = sorted({job.kind for job in ahead} | {job.kind for job in running if _needs_past(job)})
    parts = [f"{past[kind].runs} past runs of {kind}" if past[kind].runs > 1 else f"one past run of {kind}" for kind in used]
    if any(not _needs_past(job) and not job.never_ends for job in running):
        parts.append("the progress of what runs")
    return "from " + " and ".join(parts) if parts else "slots are free now"
