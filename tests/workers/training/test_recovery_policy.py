"""What follows from a step's loss, and which data are read after some was left out."""

import math
from typing import Any

import pytest
from pydantic import ValidationError

from modelyard.domain.specs.recovery import RecoverySpec
from modelyard.workers.training.recovery_policy import History, Reading, Verdict, judge
from modelyard.workers.training.skipping import add_span, data_step_of

NAN, INF = math.nan, math.inf
CALM = tuple(2.0 + 0.01 * (number % 5) for number in range(8))
"""A window whose losses have a median of 2.02 and a robust deviation of about 0.015."""


def spec(**chosen: Any) -> RecoverySpec:
    return RecoverySpec(**{"spike_window": 8, "spike_steps": 2, "on_spike": "roll_back", **chosen})


class TestNotFinite:
    @pytest.mark.parametrize(
        ("reading", "says"),
        [
            (Reading(NAN, 1.0), "the loss is nan and the gradient norm 1.0"),
            (Reading(-INF, NAN), "the loss is -inf and the gradient norm nan"),
            (Reading(2.0, INF), "the loss is 2.0 and the gradient norm inf"),
            (Reading(2.0, NAN), "the loss is 2.0 and the gradient norm nan"),
            (Reading(2.0, -1.0), "the loss is 2.0 and the gradient norm -1.0"),
            (Reading(2.0, 1.0, are_weights_finite=False), "the weights are no longer finite"),
            (Reading(NAN, 1.0, scales_loss=True), "the loss is nan and the gradient norm 1.0"),
            (Reading(2.0, INF, are_weights_finite=False, scales_loss=True), "the weights are no longer finite"),
        ],
    )
    def test_goes_back(self, reading: Reading, says: str) -> None:
        assert judge(spec(on_spike="ignore"), History(CALM), reading) == Verdict("roll_back", History(CALM), says, 1)

    @pytest.mark.parametrize("norm", [INF, NAN, -1.0])
    def test_an_overflow_is_none_where_the_loss_is_scaled(self, norm: float) -> None:
        assert judge(spec(), History(CALM), Reading(2.0, norm, scales_loss=True)).action == "go_on"

    @pytest.mark.parametrize(
        ("chosen", "rollbacks", "action"),
        [
            ({}, 0, "roll_back"),
            ({}, 2, "roll_back"),
            ({}, 3, "fail"),
            ({"max_rollbacks": 0}, 0, "fail"),
            ({"on_not_finite": "fail"}, 0, "fail"),
        ],
    )
    def test_so_many_times(self, chosen: dict[str, Any], rollbacks: int, action: str) -> None:
        assert judge(spec(**chosen), History(CALM, (), rollbacks), Reading(NAN, 1.0)).action == action


class TestSpike:
    @pytest.mark.parametrize(
        ("losses", "loss", "is_high"),
        [
            (CALM, 2.5, True),
            (CALM, 2.1, False),  # within six deviations
            (CALM, 2.03, False),  # not above all others
            ((*CALM[:-1], 9.0), 8.0, False),
            (CALM[:4], 9.0, True),  # half the window is there
            (CALM[:3], 9.0, False),
            ((), 9.0, False),
            ((0.0,) * 8, 9.0, False),  # nothing is known of how much it varies
            (tuple(-loss for loss in CALM), -1.0, True),
        ],
    )
    def test_a_loss_is_high_where_it_stands_out(self, losses: tuple[float, ...], loss: float, is_high: bool) -> None:
        verdict = judge(spec(), History(losses), Reading(loss, 1.0))
        assert verdict.action == "go_on"
        assert verdict.history == (History(losses, (loss,)) if is_high else History((*losses, loss)[-8:]))

    @pytest.mark.parametrize(
        ("on_spike", "rollbacks", "action"),
        [
            ("ignore", 0, "go_on"),
            ("note", 0, "note"),
            ("roll_back", 0, "roll_back"),
            ("roll_back", 3, "note"),  # a finite loss fails no job
            ("fail", 0, "fail"),
            ("fail", 3, "fail"),
        ],
    )
    def test_it_is_a_spike_when_it_lasts(self, on_spike: str, rollbacks: int, action: str) -> None:
        verdict = judge(spec(on_spike=on_spike), History(CALM, (9.0,), rollbacks), Reading(8.0, 1.0))
        assert verdict.action == action
        if action != "go_on":
            assert verdict.bad_steps == 2
            assert verdict.why == "the loss rose to 8 and stayed high for 2 steps, from a median of 2.015 over the 8 before"
            assert verdict.history == History((*CALM[2:], 9.0, 8.0), (), rollbacks), "the new level, told once"

    def test_one_that_passes_is_remembered(self) -> None:
        verdict = judge(spec(), History(CALM, (9.0,)), Reading(2.0, 1.0))
        assert (verdict.action, verdict.history) == ("go_on", History((*CALM[2:], 9.0, 2.0)))

    @pytest.mark.parametrize(
        ("field", "value"), [("spike_window", 7), ("spike_steps", 0), ("skip_steps", 0), ("max_rollbacks", -1)]
    )
    def test_refuses_numbers_that_mean_nothing(self, field: str, value: int) -> None:
        with pytest.raises(ValidationError, match=field):
            RecoverySpec.model_validate({field: value})

    @pytest.mark.parametrize(
        ("chosen", "may"),
        [
            ({}, True),
            ({"max_rollbacks": 0}, False),
            ({"on_not_finite": "fail"}, True),
            ({"on_not_finite": "fail", "on_spike": "note"}, False),
        ],
    )
    def test_knows_whether_it_may_go_back(self, chosen: dict[str, Any], may: bool) -> None:
        assert spec(**chosen).may_roll_back() is may


class TestSkip:
    @pytest.mark.parametrize(
        ("skipped", "read"),
        [
            ([], [0, 1, 2, 3, 4]),
            ([[0, 0]], [1, 2, 3, 4, 5]),
            ([[2, 3]], [0, 1, 4, 5, 6]),
            ([[4, 4], [1, 2]], [0, 3, 5, 6, 7]),
            ([[1, 1], [2, 2]], [0, 3, 4, 5, 6]),
        ],
    )
    def test_reads_on_behind_what_is_left_out(self, skipped: list[list[int]], read: list[int]) -> None:
        assert [data_step_of(step, skipped) for step in range(5)] == read

    @pytest.mark.parametrize(
        ("skipped", "added", "joined"),
        [
            ([], [3, 4], [[3, 4]]),
            ([[5, 6]], [1, 2], [[1, 2], [5, 6]]),
            ([[5, 6]], [4, 5], [[4, 6]]),
            ([[2, 9]], [4, 5], [[2, 9]]),
            ([[1, 2], [6, 7]], [2, 6], [[1, 7]]),
        ],
    )
    def test_spans_share_no_step(self, skipped: list[list[int]], added: list[int], joined: list[list[int]]) -> None:
        assert add_span(skipped, added) == joined
