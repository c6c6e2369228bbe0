"""Rewards by rule: what gets points and what does not, and that no pattern takes for ever."""

import time
from typing import Any

import pytest
from pydantic import ValidationError

from modelyard.domain.specs.grpo import GrpoSpec
from modelyard.workers.training.rewards import Answer, comes_to, compare_within_group, sum_rewards


def spec(*rewards: dict[str, Any], **changes: Any) -> GrpoSpec:
    return GrpoSpec.model_validate({"name": "g", "model": "m", "dataset": "d", "rewards": rewards, **changes})


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("3 and 4 make 7.", "7", True),
        ("3 and 4 make 7, not 8", "7", False),
        ("so \\boxed{7}, not 8", "7", True),
        ("It costs $1,250.00", "first 1000, then 250 #### 1250", True),
        ("-0.50", "-.5", True),
        ("nothing", "7", False),
        ("Paris.", "paris", True),
        ("It is Paris", "Paris", False),
        ("It is \\boxed{ New  York }", "new york", True),
    ],
)
def test_what_an_answer_comes_to(text: str, reference: str, expected: bool) -> None:
    assert comes_to(text, reference) is expected


@pytest.mark.parametrize(
    ("reward", "text", "points"),
    [
        ({"name": "exact_answer", "weight": 2}, "so 7", 2.0),
        ({"name": "contains"}, "a 7 b", 1.0),
        ({"name": "contains", "text": "Sorry"}, "I am sorry", 1.0),
        ({"name": "contains", "text": "sorry", "weight": -1}, "no", 0.0),
        ({"name": "regex", "pattern": r"^\d+$"}, "42", 1.0),
        ({"name": "regex", "pattern": r"^\d+$"}, "42!", 0.0),
        ({"name": "format", "parts": ["<a>", "</a>"]}, "x<a>y</a>", 1.0),
        ({"name": "format", "parts": ["<a>", "</a>"]}, "</a>y<a>", 0.0),
        ({"name": "format", "parts": ["<a>", "</a>"]}, "<a><a></a>", 0.0),
        ({"name": "length_penalty", "free_tokens": 8}, "", -0.25),
        ({"name": "length_penalty", "free_tokens": 12}, "", 0.0),
    ],
)
def test_points(reward: dict[str, Any], text: str, points: float) -> None:
    answer = Answer(text, tokens=10, reference="7")
    assert sum_rewards(spec(reward, max_new_tokens=16), answer) == points
    both = spec(reward, {"name": "contains", "text": "7"}, max_new_tokens=16)
    assert sum_rewards(both, answer) == points + ("7" in text)


def test_a_pattern_that_takes_for_ever_gives_nothing() -> None:
    began = time.process_time()
    endless = Answer("a" * 60 + "b", 1, "")
    assert sum_rewards(spec({"name": "regex", "pattern": "(a|aa)+$"}), endless) == 0.0
    assert 0.04 < time.process_time() - began < 5


def test_answers_are_compared_within_their_group() -> None:
    assert compare_within_group([1.0, 1.0, 1.0]) == [0.0, 0.0, 0.0]
    better, worse = compare_within_group([1.0, 0.0])
    assert (better, worse) == (pytest.approx(0.7070, abs=1e-3), pytest.approx(-0.7070, abs=1e-3))


@pytest.mark.parametrize(
    ("rewards", "changes", "says"),
    [
        ([], {}, "at least 1 item"),
        ([{"name": "python", "code": "1"}], {}, "does not match any of the expected tags"),
        ([{"name": "regex", "pattern": "("}], {}, "is no pattern: missing"),
        ([{"name": "length_penalty", "free_tokens": 64}], {}, "free_tokens 64 is not less than max_new_tokens 64"),
        ([{"name": "contains"}], {"deepspeed": {"zero_stage": 3}}, "choose 0, 1, 2 or auto"),
        ([{"name": "contains"}], {"max_new_tokens": 256}, "leaves no room for a problem within sequence_length 256"),
        ([{"name": "contains"}], {"method": "full", "beta": 0.1}, "compared with the base, which is gone; choose lora"),
        ([{"name": "contains"}], {"group_size": 1}, "greater than or equal to 2"),
    ],
)
def test_what_cannot_work_is_refused(rewards: list[Any], changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        spec(*rewards, **changes)
