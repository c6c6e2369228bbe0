"""Waiting for jobs: when it ends, and what it survives. Time is a number here, so nothing sleeps."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from modelyard.cli.errors import JobFailed, ServerUnreachable, WaitTimedOut
from modelyard.cli.waiting import OUTAGE_SECONDS, has_succeeded, is_done, raise_if_failed, wait_until

Document = dict[str, Any]


class Clock:
    """Time that passes only by pausing."""

    def __init__(self) -> None:
        self.now = 0.0

    def pause(self, seconds: float) -> None:
        self.now += seconds


def job(state: str, **more: Any) -> Document:
    return {"id": "job_1", "state": state, "ready_at": None, **more}


def fetch_from(answers: list[Document | Exception]) -> Callable[[], Document]:
    left: Iterator[Document | Exception] = iter(answers)

    def fetch() -> Document:
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return fetch


class TestWait:
    def test_returns_the_last_state(self) -> None:
        clock, seen = Clock(), list[Document]()
        states = [job("queued"), job("running"), job("succeeded")]
        last = wait_until(fetch_from([*states]), is_done, seen.append, None, clock.pause, lambda: clock.now)
        assert (last, seen) == (states[-1], states)

    def test_times_out(self) -> None:
        clock = Clock()
        with pytest.raises(WaitTimedOut, match="30"):
            wait_until(lambda: job("running"), is_done, lambda _: None, 30, clock.pause, lambda: clock.now)
        assert 30 <= clock.now < 31

    def test_survives_a_short_outage(self) -> None:
        clock = Clock()
        answers: list[Document | Exception] = [job("running"), *[ServerUnreachable("away")] * 20, job("succeeded")]
        assert (
            wait_until(fetch_from(answers), is_done, lambda _: None, None, clock.pause, lambda: clock.now)["state"] == "succeeded"
        )

    def test_gives_up_after_a_long_outage(self) -> None:
        clock = Clock()

        def fetch() -> Document:
            raise ServerUnreachable("away")

        with pytest.raises(ServerUnreachable):
            wait_until(fetch, is_done, lambda _: None, None, clock.pause, lambda: clock.now)
        assert clock.now > OUTAGE_SECONDS


class TestEnd:
    @pytest.mark.parametrize(
        ("thing", "done", "succeeded"),
        [
            (job("held"), False, False),
            (job("running"), False, False),
            (job("succeeded"), True, True),
            (job("failed"), True, False),
            (job("quarantined"), True, False),
            (job("running", ready_at="2026-01-01T00:00:00Z"), True, True),
            (job("failed", ready_at="2026-01-01T00:00:00Z"), True, False),
        ],
    )
    def test_states(self, thing: Document, done: bool, succeeded: bool) -> None:
        assert (is_done(thing), has_succeeded(thing)) == (done, succeeded)

    def test_failure_says_cause_and_way_out(self) -> None:
        failed = job("failed", name="tiny", error={"reason": "nan", "message": "the loss is NaN at step 3"})
        explanation = {"state": "failed", "summary": "It diverged.", "details": [], "fix": "Lower the learning rate."}
        with pytest.raises(
            JobFailed, match=r"tiny is failed: the loss is NaN at step 3\nIt diverged\.\nLower the learning rate\."
        ):
            raise_if_failed(failed, explanation)
