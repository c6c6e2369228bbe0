"""What becomes of a job after each ending."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from modelyard.domain.jobs.lifecycle import JobState, Outcome
from modelyard.domain.jobs.retry import (
    DEATH_LIMIT,
    LONG_ATTEMPT_SECONDS,
    LONGEST_BACKOFF_SECONDS,
    TROUBLE_LIMIT,
    Next,
    Past,
    decide_next,
)

QUEUED, FAILED, PAUSED, CANCELLED = JobState.QUEUED, JobState.FAILED, JobState.PAUSED, JobState.CANCELLED
QUARANTINED, SUCCEEDED = JobState.QUARANTINED, JobState.SUCCEEDED


def pasts(words: str) -> list[Past]:
    """`"node_lost hang+ nccl~"`: outcomes of attempts on hosts h1, h2, …; `+` saved a checkpoint, `~` ran for long."""
    return [
        Past(word.rstrip("+~"), LONG_ATTEMPT_SECONDS if "~" in word else 1.0, "+" in word, f"h{number}")
        for number, word in enumerate(words.split(), start=1)
    ]


class TestDecideNext:
    @pytest.mark.parametrize(
        ("history", "stop", "max_attempts", "state", "wait"),
        [
            # the job's own failures use its budget
            ("succeeded", None, 1, SUCCEEDED, 0),
            ("user_code", None, 1, FAILED, 0),
            ("user_code", None, 3, QUEUED, 0),
            ("user_code user_code", None, 3, QUEUED, 2),
            ("user_code oom_gpu oom_host", None, 4, QUEUED, 4),
            ("user_code user_code oom_host", None, 3, FAILED, 0),
            ("user_code~ oom_gpu+", None, 2, FAILED, 0),
            # what would end the same way is not tried again
            ("bad_data", None, 9, FAILED, 0),
            ("nan", None, 9, FAILED, 0),
            ("timeout", None, 9, FAILED, 0),
            ("dependency_failed", None, 9, FAILED, 0),
            # the infrastructure's failures use nothing of it
            ("node_lost", None, 1, QUEUED, 0),
            ("runner_lost runner_lost", None, 1, QUEUED, 2),
            ("nccl disk_full node_lost", None, 1, QUEUED, 4),
            ("runner_lost runner_lost user_code user_code", None, 2, FAILED, 0),
            ("runner_lost runner_lost disk_full nccl hang user_code", None, 2, QUEUED, 0),
            ("nccl nccl nccl nccl nccl", None, 1, QUEUED, 16),
            ("nccl nccl nccl+ nccl nccl nccl", None, 1, QUEUED, 4),
            # nor does being asked to leave
            ("drained " * 50, None, 1, QUEUED, 0),
            ("preempted " * 50, None, 1, QUEUED, 0),
            ("paused paused user_code", None, 2, QUEUED, 0),
            ("paused", "paused", 1, PAUSED, 0),
            # a wish to stop outlives another reason to leave
            ("drained", "paused", 1, PAUSED, 0),
            ("node_lost", "paused", 1, PAUSED, 0),
            ("user_code", "paused", 1, FAILED, 0),
            ("timeout", "paused", 1, FAILED, 0),
            ("drained", "cancelled", 1, CANCELLED, 0),
            ("drained", "discarded", 1, CANCELLED, 0),
            ("runner_lost " * DEATH_LIMIT, "cancelled", 1, CANCELLED, 0),
            ("user_code", "cancelled", 3, CANCELLED, 0),
            ("cancelled", None, 1, CANCELLED, 0),
            # but not having succeeded
            ("succeeded", "cancelled", 1, SUCCEEDED, 0),
            ("succeeded", "discarded", 1, SUCCEEDED, 0),
            ("succeeded", "paused", 1, SUCCEEDED, 0),
        ],
    )
    def test_state_and_longest_wait(
        self, history: str, stop: str | None, max_attempts: int, state: JobState, wait: float
    ) -> None:
        after = decide_next(stop, pasts(history), max_attempts)
        assert (after.state, after.wait_seconds) == (state, wait)

    @pytest.mark.parametrize(
        ("history", "state", "why"),
        [
            ("node_lost runner_lost", QUEUED, None),
            ("runner_lost node_lost runner_lost", QUARANTINED, "lost its worker 3 times in a row"),
            # what got on in between shows that the job is not what kills its workers
            ("runner_lost runner_lost runner_lost+", QUEUED, None),
            ("runner_lost runner_lost runner_lost~", QUEUED, None),
            ("runner_lost runner_lost~ runner_lost runner_lost", QUEUED, None),
            ("runner_lost runner_lost+ runner_lost runner_lost runner_lost", QUARANTINED, "in a row without getting on"),
            ("runner_lost runner_lost drained runner_lost", QUEUED, None),
            ("runner_lost nccl runner_lost nccl runner_lost", QUEUED, None),
            ("nccl " * TROUBLE_LIMIT, FAILED, "trouble of its machines 6 times"),
            ("disk_full " * TROUBLE_LIMIT, FAILED, "trouble of its machines 6 times"),
            ("hang hang+ hang", QUEUED, None),
            ("hang+ hang hang", FAILED, "hung 3 times"),
            ("hang drained hang node_lost hang", FAILED, "hung 3 times"),
        ],
    )
    def test_when_it_gives_up(self, history: str, state: JobState, why: str | None) -> None:
        after = decide_next(None, pasts(history), 1)
        assert after.state is state
        assert (after.why is None) if why is None else (why in (after.why or ""))

    @pytest.mark.parametrize(
        ("history", "stop", "host"),
        [
            ("hang", None, None),
            ("hang hang", None, "h2"),
            ("hang runner_lost hang", None, "h3"),
            ("hang hang+", None, None),
            ("disk_full", None, "h1"),
            ("disk_full disk_full", None, "h2"),
            ("disk_full", "paused", "h1"),
            ("node_lost node_lost", None, None),
            ("nccl nccl", None, None),
        ],
    )
    def test_when_it_goes_to_another_host(self, history: str, stop: str | None, host: str | None) -> None:
        assert decide_next(stop, pasts(history), 1).avoid_host == host

    def test_an_unknown_host_is_not_avoided(self) -> None:
        assert decide_next(None, [Past("disk_full")], 1) == Next(QUEUED)


class TestBackoff:
    def test_has_an_end(self) -> None:
        waits = [decide_next(None, [Past("user_code")] * n, 10_000).wait_seconds for n in (*range(1, 30), 5_000)]
        assert waits == sorted(waits)
        assert waits[-1] == LONGEST_BACKOFF_SECONDS

    @given(some.integers(1, 40), some.floats(0, 1))
    def test_is_anywhere_between_nothing_and_the_longest(self, failures: int, chance: float) -> None:
        history = [Past("user_code")] * failures
        longest = decide_next(None, history, 99).wait_seconds
        assert decide_next(None, history, 99, chance).wait_seconds == chance * longest


class TestEveryOutcome:
    @pytest.mark.parametrize("outcome", Outcome)
    @pytest.mark.parametrize("got_on", [False, True])
    def test_none_goes_on_for_ever_unless_we_asked_it_to_leave_or_it_gets_on(self, outcome: Outcome, got_on: bool) -> None:
        after = decide_next(None, [Past(outcome, has_saved=got_on)] * 100, 10)
        if outcome in {Outcome.DRAINED, Outcome.PREEMPTED} or (got_on and outcome in TROUBLES_THAT_MAY_PASS):
            assert after.state is QUEUED
        else:
            assert after.state is not QUEUED


TROUBLES_THAT_MAY_PASS = {Outcome.NODE_LOST, Outcome.RUNNER_LOST, Outcome.HANG, Outcome.NCCL, Outcome.DISK_FULL}
