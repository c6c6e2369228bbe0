"""A configuration that fits is found by trying, and no more is changed than must be."""

from dataclasses import replace
from typing import Any

import pytest

from modelyard.domain.planning.fitting import Changes, Tried, suggest
from modelyard.domain.planning.moves import MOVES
from modelyard.domain.planning.setups import Adapter, Setup
from modelyard.domain.planning.shapes import Shape

SHAPE = Shape(1000, 64, 128, 2, 4, 2, 16)
START = Setup(SHAPE, micro_batch_size=8, sequence_length=64, steps=10, accelerator="gpu", zero_stage=1, ranks=2, ranks_per_host=2)
FIELDS = {
    "spec.micro_batch_size": "micro_batch_size",
    "spec.gradient_accumulation_steps": "accumulation",
    "spec.activation_checkpointing": "checkpoints_activations",
    "spec.deepspeed.zero_stage": "zero_stage",
    "spec.deepspeed.offload": "offload",
}


def weigh(setup: Setup) -> int:
    """A simple memory: 10 per sequence unless recomputed, 240 of states shared by stage and ranks, half a model if adapted."""
    batch = setup.micro_batch_size * (2 if setup.checkpoints_activations else 10)
    states = 0 if setup.offload != "none" else 240 * (4 - setup.zero_stage) // setup.ranks
    return batch + states // (4 if setup.adapter else 1) + (0 if setup.offload == "parameters" else 40)


def find(room: int, start: Setup = START, refused: str = "") -> dict[str, Any] | None:
    """The changes that are suggested where so much fits; places named in `refused` do not exist."""

    def attempt(changes: Changes) -> Tried | None:
        if any(place == refused for place in changes):
            return None
        setup = replace(start, **{FIELDS[place]: value for place, value in changes.items() if place in FIELDS})
        if "spec.method" in changes:
            setup = replace(setup, adapter=Adapter(8, ("q_proj",), is_base_quantized=changes["spec.method"] == "qlora"))
        if "resources.slots" in changes:
            setup = replace(setup, ranks=changes["resources.slots"], ranks_per_host=changes["resources.slots"])
        if start.keeps_global_batch:
            setup = replace(setup, accumulation=start.global_batch_size // setup.micro_batch_size // setup.ranks)
        assert setup.global_batch_size == start.global_batch_size  # whatever is suggested, it learns the same
        return Tried(setup, weigh(setup), weigh(setup) <= room)

    found = suggest(Tried(start, weigh(start), weigh(start) <= room), MOVES, attempt)
    return dict(found.changes) if found else None


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (480, None),  # it fits as it is
        (445, {"spec.micro_batch_size": 4, "spec.gradient_accumulation_steps": 2}),
        (410, {"spec.micro_batch_size": 1, "spec.gradient_accumulation_steps": 8}),
        (300, {"spec.micro_batch_size": 1, "spec.gradient_accumulation_steps": 8, "spec.deepspeed.zero_stage": 2}),
        (165, {"spec.activation_checkpointing": True, "spec.deepspeed.zero_stage": 3, "spec.micro_batch_size": 1,
               "spec.gradient_accumulation_steps": 8}),
        (60, {"spec.deepspeed.offload": "optimizer", "spec.micro_batch_size": 1, "spec.gradient_accumulation_steps": 8}),
        (1, None),  # nothing helps
    ],
)  # fmt: skip
def test_the_least_harmful_changes_come_first(room: int, expected: dict[str, Any] | None) -> None:
    assert find(room) == expected


def test_a_change_that_is_not_needed_any_more_is_taken_back() -> None:
    assert find(200, replace(START, micro_batch_size=1)) == {"spec.deepspeed.zero_stage": 3}


def test_a_global_batch_that_is_given_says_how_many_passes() -> None:
    assert find(410, replace(START, keeps_global_batch=True)) == {"spec.micro_batch_size": 1}


def test_what_the_spec_does_not_know_is_passed_over() -> None:
    found = find(300, refused="spec.deepspeed.zero_stage")
    assert found is not None
    assert "spec.deepspeed.zero_stage" not in found


def test_more_slots_halve_the_passes() -> None:
    start = replace(START, micro_batch_size=1, accumulation=4, zero_stage=3, accelerator="cpu", adapter=Adapter(8, ("q_proj",)))
    assert find(65, start) == {"resources.slots": 4, "spec.gradient_accumulation_steps": 2, "spec.deepspeed.zero_stage": 3}
