"""What becomes of a job after each ending."""

import pytest

from modelyard.domain.jobs.lifecycle import JobState, Outcome
from modelyard.domain.jobs.retry import LONGEST_BACKOFF_SECONDS, LOST_LIMIT, Next, decide_next

QUEUED, FAILED, PAUSED, CANCELLED = JobState.QUEUED, JobState.FAILED, JobState.PAUSED, JobState.CANCELLED


class TestDecideNext:
    @pytest.mark.parametrize(
        ("history", "stop", "max_attempts", "state", "wait"),
        [
            # the job's own failures use its budget
            (["succeeded"], None, 1, JobState.SUCCEEDED, 0),
            (["user_code"], None, 1, FAILED, 0),
            (["user_code"], None, 3, QUEUED, 0),
            (["user_code", "user_code"], None, 3, QUEUED, 2),
            (["user_code", "oom_gpu", "disk_full"], None, 4, QUEUED, 4),
            (["user_code", "user_code", "oom_host"], None, 3, FAILED, 0),
            # what would end the same way is not tried again
            (["bad_data"], None, 9, FAILED, 0),
            (["nan"], None, 9, FAILED, 0),
            (["timeout"], None, 9, FAILED, 0),
            (["dependency_failed"], None, 9, FAILED, 0),
            # the infrastructure's failures use nothing of it
            (["node_lost"], None, 1, QUEUED, 0),
            (["runner_lost", "runner_lost"], None, 1, QUEUED, 2),
            (["nccl", "hang", "node_lost"], None, 1, QUEUED, 4),
            (["runner_lost"] * (LOST_LIMIT - 1), None, 1, QUEUED, 8),
            (["runner_lost"] * LOST_LIMIT, None, 1, JobState.QUARANTINED, 0),
            (["runner_lost"] * (LOST_LIMIT - 1) + ["drained", "runner_lost"], None, 1, QUEUED, 0),
            (["runner_lost"] * 4 + ["user_code", "user_code"], None, 2, FAILED, 0),
            (["runner_lost"] * 4 + ["user_code"], None, 2, QUEUED, 0),
            # nor does being asked to leave
            (["drained"] * 50, None, 1, QUEUED, 0),
            (["preempted"] * 50, None, 1, QUEUED, 0),
            (["paused", "paused", "user_code"], None, 2, QUEUED, 0),
            (["paused"], "paused", 1, PAUSED, 0),
            # a wish to stop outlives another reason to leave
            (["drained"], "paused", 1, PAUSED, 0),
            (["node_lost"], "paused", 1, PAUSED, 0),
            (["user_code"], "paused", 1, FAILED, 0),
            (["drained"], "cancelled", 1, CANCELLED, 0),
            (["runner_lost"] * LOST_LIMIT, "cancelled", 1, CANCELLED, 0),
            (["user_code"], "cancelled", 3, CANCELLED, 0),
            (["cancelled"], None, 1, CANCELLED, 0),
            # but not having succeeded
            (["succeeded"], "cancelled", 1, JobState.SUCCEEDED, 0),
            (["succeeded"], "paused", 1, JobState.SUCCEEDED, 0),
        ],
    )
    def test_table(self, history: list[str], stop: str | None, max_attempts: int, state: JobState, wait: float) -> None:
        assert decide_next(Outcome(history[-1]), stop, history, max_attempts) == Next(state, wait)

    def test_backoff_has_an_end(self) -> None:
        waits = [decide_next(Outcome.USER_CODE, None, ["user_code"] * n, 100).wait_seconds for n in range(1, 30)]
        assert waits == sorted(waits)
        assert waits[-1] == LONGEST_BACKOFF_SECONDS
