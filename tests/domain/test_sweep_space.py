"""Ranges, their places in a job's body, and what is refused."""

from typing import Any

import pytest
from factories import spec_of
from pydantic import TypeAdapter, ValidationError

from modelyard.domain.errors import InvalidRequest
from modelyard.domain.jobs.bodies import JobCreate
from modelyard.domain.sweeps.bodies import SweepCreate
from modelyard.domain.sweeps.checks import check_grid, check_pruning, check_space
from modelyard.domain.sweeps.space import Parameter, Space, fill_in, list_grid, pick_from_grid

RATE = "spec.optimizer.learning_rate"
JOB = {"spec": spec_of("finetune")}


def space(**parameters: dict[str, Any]) -> Space:
    """Ranges by name; `__` stands for a dot."""
    given = {name.replace("__", "."): parameter for name, parameter in parameters.items()}
    return TypeAdapter(dict[str, Parameter]).validate_python(given)


class TestFillIn:
    def test_leaves_everything_else_as_it_is(self) -> None:
        filled = JobCreate.model_validate(fill_in(JOB, {RATE: 0.25, "spec.seed": 3}))
        plain = JobCreate.model_validate(JOB)
        # The optimizer of fine-tuning has defaults of its own, which a place inside it must not lose.
        assert plain.spec.optimizer.weight_decay == filled.spec.optimizer.weight_decay == 0.0
        assert (filled.spec.optimizer.learning_rate, filled.spec.seed) == (0.25, 3)
        assert filled.spec.model_dump(exclude={"optimizer", "seed"}) == plain.spec.model_dump(exclude={"optimizer", "seed"})
        assert {"spec": spec_of("finetune")} == JOB

    def test_keeps_what_the_body_says_beside_it(self) -> None:
        job = {"spec": spec_of("pretrain", optimizer={"weight_decay": 0.5})}
        assert fill_in(job, {RATE: 0.25})["spec"]["optimizer"] == {"weight_decay": 0.5, "learning_rate": 0.25}


REFUSED = [
    ({"spec.optimizer.rate": {"type": "float", "low": 0.1, "high": 1.0}}, "spec.optimizer.rate", "Extra inputs"),
    ({RATE: {"type": "float", "low": 0.0, "high": 1.0}}, RATE, "0.0 cannot be used: Input should be greater than 0"),
    ({"spec.optimizer.warmup_ratio": {"type": "float", "low": 0.5, "high": 1.5}}, "spec.optimizer.warmup_ratio", "1.5"),
    ({"spec.steps": {"type": "float", "low": 1.0, "high": 2.5}}, "spec.steps", "valid integer"),
    ({"spec.precision": {"type": "categorical", "choices": ["fp32", "fp2", "bf16"]}}, "spec.precision", "'fp2'"),
    ({"priority": {"type": "int", "low": 1, "high": 9}}, "priority", "a parameter is a place in the spec"),
    ({"spec.kind": {"type": "categorical", "choices": ["pretrain"]}}, "spec.kind", "a parameter is a place in the spec"),
]


class TestCheckSpace:
    @pytest.mark.parametrize(("parameters", "place", "why"), REFUSED)
    def test_says_which_place_and_why(self, parameters: dict[str, Any], place: str, why: str) -> None:
        ranges = TypeAdapter(dict[str, Parameter]).validate_python(parameters)
        with pytest.raises(InvalidRequest, match=why) as caught:
            check_space({"spec": spec_of("pretrain")}, ranges)
        assert caught.value.field == f"parameters.{place}"

    def test_passes_what_the_spec_takes(self) -> None:
        check_space(JOB, space(spec__lora__rank={"type": "int", "low": 1, "high": 64, "log": True}))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"type": "float", "low": 1.0, "high": 1.0},
            {"type": "float", "low": 0.0, "high": 1.0, "log": True},
            {"type": "int", "low": 1, "high": 9, "log": True, "step": 2},
            {"type": "categorical", "choices": []},
            {"type": "float", "low": 0.0, "high": float("inf")},
        ],
    )
    def test_a_range_must_be_one(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            space(x=wrong)


class TestCheckPruning:
    def body(self, **changes: Any) -> SweepCreate:
        plain = {"name": "s", "job": {"spec": spec_of("pretrain", steps=40)}, "pruning": {"min_steps": 10}}
        return SweepCreate.model_validate({**plain, "parameters": {RATE: {"type": "float", "low": 0.1, "high": 1}}, **changes})

    def test_remembers_the_steps_of_the_whole_run(self) -> None:
        assert check_pruning(self.body()) == {"min_steps": 10, "reduction_factor": 3, "steps": 40}

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"pruning": {"min_steps": 40}}, "pruning.min_steps"),
            ({"parameters": {"spec.steps": {"type": "int", "low": 50, "high": 60}}}, "pruning"),
            ({"job": {"spec": spec_of("evaluate")}}, "pruning"),
            ({"job": {"spec": spec_of("deploy")}}, "job.spec.kind"),
        ],
    )
    def test_needs_rungs(self, changes: dict[str, Any], field: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            check_pruning(self.body(**changes))
        assert caught.value.field == field


class TestGrid:
    GRID = space(a={"type": "categorical", "choices": ["x", "y"]}, b={"type": "float", "low": 0.1, "high": 0.3, "step": 0.1})

    def test_every_point_once(self) -> None:
        assert check_grid(self.GRID) == 6
        points = [pick_from_grid(self.GRID, number) for number in range(6)]
        assert len({tuple(point.items()) for point in points}) == 6
        assert points[0] == {"a": "x", "b": 0.1}
        assert points[4] == {"a": "y", "b": 0.2}

    def test_a_range_without_steps_has_no_grid(self) -> None:
        with pytest.raises(InvalidRequest, match="a grid needs the `step`"):
            check_grid(space(a={"type": "float", "low": 0.1, "high": 0.3}))
        assert list_grid(space(a={"type": "int", "low": 1, "high": 8, "step": 3})["a"]) == [1, 4, 7]
