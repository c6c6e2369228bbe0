"""Every ending of an attempt has one name."""

from typing import Any

import pytest

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.workers.runner.outcome import Ending, classify

OOM = {"type": "error", "reason": "oom_gpu", "message": "CUDA out of memory"}
ODD = {"type": "error", "reason": "no such reason", "message": ""}


class TestClassify:
    @pytest.mark.parametrize(
        ("codes", "errors", "stop", "ending"),
        [
            ([0, 0], [], None, Ending(Outcome.SUCCEEDED, None, 0)),
            ([65], [], None, Ending(Outcome.BAD_DATA, "last line", 65)),
            ([76], [], None, Ending(Outcome.NAN, "last line", 76)),
            ([77], [], None, Ending(Outcome.HANG, "last line", 77)),
            ([1], [], None, Ending(Outcome.USER_CODE, "Rank 0 ended with exit code 1: last line", 1)),
            ([-11], [], None, Ending(Outcome.USER_CODE, "Rank 0 ended with exit code -11: last line", -11)),
            ([-9], [], None, Ending(Outcome.RUNNER_LOST, "Rank 0 was killed from outside by SIGKILL", -9)),
            ([0, -15], [], None, Ending(Outcome.RUNNER_LOST, "Rank 1 was killed from outside by SIGTERM", -15)),
            # one rank fails, and we kill the others
            ([-9, 76], [], None, Ending(Outcome.NAN, "last line", 76)),
            ([-9, -11, -9], [], None, Ending(Outcome.USER_CODE, "Rank 1 ended with exit code -11: last line", -11)),
            # what the recipe says counts most
            ([1, -9], [OOM, ODD], None, Ending(Outcome.OOM_GPU, "CUDA out of memory", 1)),
            ([-9, 1], [OOM], None, Ending(Outcome.OOM_GPU, "CUDA out of memory", 1)),
            ([1], [ODD], None, Ending(Outcome.USER_CODE, None, 1)),
            # told to leave
            ([75, 75], [], "paused", Ending(Outcome.PAUSED, "Asked to stop (paused); saved and left", 75)),
            ([0, 75], [], "drained", Ending(Outcome.DRAINED, "Asked to stop (drained); saved and left", 75)),
            ([-9], [], "cancelled", Ending(Outcome.CANCELLED, "Asked to stop (cancelled); did not leave in time and was killed")),
            ([75], [], "a new word", Ending(Outcome.CANCELLED, "Asked to stop (a new word); saved and left", 75)),
            ([1], [OOM], "paused", Ending(Outcome.OOM_GPU, "CUDA out of memory", 1)),
            ([75, 75], [OOM], "paused", Ending(Outcome.PAUSED, "Asked to stop (paused); saved and left", 75)),
            # left half-way without being told: no success
            ([75], [], None, Ending(Outcome.RUNNER_LOST, "The recipe saved and left without being asked to", 75)),
            ([0, 75], [], None, Ending(Outcome.RUNNER_LOST, "The recipe saved and left without being asked to", 75)),
        ],
    )
    def test_table(self, codes: list[int], errors: list[dict[str, Any]], stop: str | None, ending: Ending) -> None:
        assert classify(codes, errors, stop, "last line") == ending

    def test_a_service_does_not_end_by_itself(self) -> None:
        assert classify([0], [], is_service=True).outcome is Outcome.USER_CODE
        assert classify([0], [], "drained", is_service=True).outcome is Outcome.DRAINED

    @pytest.mark.parametrize("outcome", Outcome)
    def test_every_reason_a_recipe_may_name(self, outcome: Outcome) -> None:
        assert classify([1], [{"reason": str(outcome), "message": "m"}]).outcome is outcome
