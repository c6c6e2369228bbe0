"""What comes next about a sweep: one decision at a time, as a table."""

import math
from dataclasses import replace
from typing import Any

import pytest

from modelyard.domain.jobs.lifecycle import JobState as Job
from modelyard.domain.sweeps.decisions import Action, Close, Create, End, Note, Promote, decide, find_best
from modelyard.domain.sweeps.states import SweepState, TrialState
from modelyard.domain.sweeps.views import JobView, SweepView, TrialView

PLAIN = SweepView(SweepState.RUNNING, "validation_loss", True, trials=4, parallel=2)
HALVING = replace(PLAIN, rungs=(10, 20), reduction_factor=2)
QUEUED, PAUSED, DONE = JobView(Job.QUEUED), JobView(Job.PAUSED), JobView(Job.SUCCEEDED)
NO_METRIC = "it reported no metric 'validation_loss' there; set `metric` to one that it reports"


def running(number: int, job: JobView = QUEUED, **results: float) -> TrialView:
    """A trial on its way; `s10=2.0`: it had 2.0 at step 10."""
    return TrialView(number, TrialState.RUNNING, _steps(results), job)


def waiting(number: int, **results: float) -> TrialView:
    """A trial that paused at a rung."""
    return TrialView(number, TrialState.WAITING, _steps(results), PAUSED)


def finished(number: int, value: float) -> TrialView:
    """A trial that did all its steps."""
    return TrialView(number, TrialState.FINISHED, {40: value}, DONE)


def failed(number: int, **results: float) -> TrialView:
    """A trial whose job failed."""
    return TrialView(number, TrialState.FAILED, _steps(results), JobView(Job.FAILED), "out of luck")


def stopped(number: int, job: JobView, **results: float) -> TrialView:
    """A trial that was ended."""
    return TrialView(number, TrialState.STOPPED, _steps(results), job)


def _steps(results: dict[str, float]) -> dict[int, float]:
    return {int(name[1:]): value for name, value in results.items()}


def at(step: int | None, value: float | None, saved: int | None = None) -> JobView:
    """A job that paused, with the newest value it reported."""
    return JobView(Job.PAUSED, None, saved, step, value)


NOTES: list[tuple[str, TrialView, Note | None]] = [
    ("it waits in its queue", running(0), None),
    ("it runs", running(0, JobView(Job.RUNNING)), None),
    ("it paused at its rung", running(0, at(10, 2.0, 10)), Note(0, TrialState.WAITING, 10, 2.0)),
    ("it paused at its next rung", running(0, at(20, 2.0, 20), s10=3.0), Note(0, TrialState.WAITING, 20, 2.0)),
    ("somebody paused it before its rung", running(0, at(5, 2.0, 5)), None),
    ("somebody paused it before its next rung", running(0, at(10, 2.0, 15), s10=2.0), None),
    ("it paused at its rung and said nothing", running(0, at(None, None, 10)), Note(0, TrialState.FAILED, message=NO_METRIC)),
    ("it paused at its rung and said it before", running(0, at(5, 2.0, 10)), Note(0, TrialState.FAILED, message=NO_METRIC)),
    (
        "it did all its steps",
        running(0, JobView(Job.SUCCEEDED, None, 40, 40, 1.0), s10=3.0, s20=2.0),
        Note(0, TrialState.FINISHED, 40, 1.0),
    ),
    ("it did all and said nothing", running(0, DONE), Note(0, TrialState.FAILED, message=NO_METRIC)),
    ("its job failed", running(0, JobView(Job.FAILED, "the loss is nan")), Note(0, TrialState.FAILED, message="the loss is nan")),
    ("its job is quarantined", running(0, JobView(Job.QUARANTINED, "x")), Note(0, TrialState.FAILED, message="x")),
    ("somebody cancelled it", running(0, JobView(Job.CANCELLED)), Note(0, TrialState.STOPPED, message="its job was cancelled")),
    (
        "somebody cancelled it while it waited",
        replace(waiting(0, s10=1.0), job=JobView(Job.CANCELLED)),
        Note(0, TrialState.STOPPED, message="its job was cancelled"),
    ),
    ("it waits, and somebody resumed its job", replace(waiting(0, s10=1.0), job=JobView(Job.QUEUED)), None),
]

USED_UP = replace(HALVING, gpu_hours=2.0, max_gpu_hours=1.5)
USED = "the sweep used 2 of 1.5 GPU-hours"
CANCELLING = replace(HALVING, state=SweepState.CANCELLING)
ENDED = JobView(Job.CANCELLED)
TABLE: list[tuple[str, SweepView, list[TrialView], Action | None]] = [
    ("the first", PLAIN, [], Create(0, None)),
    ("the first of a halving pauses at the first rung", HALVING, [], Create(0, 10)),
    ("there is room for another", PLAIN, [running(0)], Create(1, None)),
    ("there is no room", PLAIN, [running(0), running(1)], None),
    ("one that waits takes no room", HALVING, [waiting(0, s10=1.0), running(1)], Create(2, 10)),
    ("a promotion before a new one", HALVING, [waiting(0, s10=1.0), waiting(1, s10=2.0)], Promote(0, 20)),
    (
        "from the last rung to its end",
        HALVING,
        [waiting(0, s10=1.0, s20=1.0), waiting(1, s10=2.0, s20=2.0)],
        Promote(0, None),
    ),
    ("all are made and one still runs", PLAIN, [finished(n, 1.0) for n in range(3)] + [running(3)], None),
    ("all have finished", PLAIN, [finished(n, float(n)) for n in range(4)], Close(SweepState.SUCCEEDED, 0, None)),
    (
        "the last hope, where too few were tried",
        replace(HALVING, trials=1),
        [waiting(0, s10=1.0)],
        Promote(0, 20),
    ),
    (
        "one has finished: the others have lost",
        replace(HALVING, trials=2),
        [replace(finished(0, 1.0), results={10: 1.0, 20: 1.0, 40: 1.0}), waiting(1, s10=2.0)],
        End(1, False, "others were better"),
    ),
    ("a paused sweep gives out nothing", replace(PLAIN, state=SweepState.PAUSED), [running(0, PAUSED)], None),
    (
        "a paused sweep notes what comes in",
        replace(HALVING, state=SweepState.PAUSED),
        [running(0, at(10, 2.0, 10))],
        Note(0, TrialState.WAITING, 10, 2.0),
    ),
    ("cancelling ends them one by one and keeps what they saved", CANCELLING, [running(0)], End(0, True, "cancelled")),
    ("cancelling waits for those that save", CANCELLING, [stopped(0, JobView(Job.CANCELLING))], None),
    ("cancelled", CANCELLING, [stopped(0, ENDED, s10=1.0)], Close(SweepState.CANCELLED, 0, None)),
    ("used up: those that run are ended", USED_UP, [waiting(0, s10=1.0), running(1, s10=2.0)], End(0, True, USED)),
    ("used up: only the best is worth keeping", USED_UP, [stopped(0, ENDED, s10=1.0), running(1, s10=2.0)], End(1, False, USED)),
    (
        "used up: the best so far stands",
        USED_UP,
        [stopped(0, ENDED, s10=1.0), stopped(1, ENDED, s10=2.0)],
        Close(SweepState.SUCCEEDED, 0, USED),
    ),
    ("nothing is used up before the limit", replace(USED_UP, gpu_hours=1.4), [], Create(0, 10)),
    (
        "the first three failed",
        replace(PLAIN, trials=9),
        [failed(0), failed(1), failed(2)],
        Close(SweepState.FAILED, None, "the first 3 trials failed: out of luck"),
    ),
    ("three of four failed", replace(PLAIN, trials=9), [finished(0, 1.0), failed(1), failed(2), failed(3)], Create(4, None)),
    ("two failed", replace(PLAIN, trials=9), [failed(0), failed(1)], Create(2, None)),
    (
        "all failed",
        replace(PLAIN, trials=2),
        [failed(0), failed(1)],
        Close(SweepState.FAILED, None, "trial 0: out of luck"),
    ),
]


class TestDecide:
    @pytest.mark.parametrize(("why", "trial", "note"), NOTES)
    def test_what_became_of_a_job(self, why: str, trial: TrialView, note: Note | None) -> None:
        assert decide(replace(HALVING, parallel=1, trials=1, state=SweepState.PAUSED), [trial]) == note, why

    @pytest.mark.parametrize(("why", "sweep", "trials", "action"), TABLE)
    def test_what_comes_next(self, why: str, sweep: SweepView, trials: list[TrialView], action: Action | None) -> None:
        assert decide(sweep, trials) == action, why


class TestFindBest:
    CASES: list[tuple[list[TrialView], bool, int | None]] = [
        ([], True, None),
        ([finished(0, 2.0), finished(1, 1.0)], True, 1),
        ([finished(0, 2.0), finished(1, 1.0)], False, 0),
        ([finished(0, 1.0), finished(1, 1.0)], True, 0),
        ([finished(0, math.nan), finished(1, 5.0)], True, 1),
        ([waiting(0, s10=1.0), waiting(1, s10=3.0, s20=2.0)], True, 1),
        ([waiting(0, s10=1.0, s20=1.0), finished(1, 9.0)], True, 1),
        ([failed(0), running(1)], True, None),
    ]

    @pytest.mark.parametrize(("trials", "minimizes", "best"), CASES)
    def test_finished_first_then_furthest_then_best(self, trials: Any, minimizes: bool, best: int | None) -> None:
        assert find_best(replace(HALVING, minimizes=minimizes), trials) == best
