"""When two runs count as identical, and where they part."""

from typing import Any

import pytest

from modelyard.domain.reproduction.comparison import Results, compare

LOSSES: dict[tuple[int, str], float | None] = {(1, "loss"): 2.5, (2, "loss"): 2.25, (2, "validation_loss"): 2.0}
FILES = {("model", "model.safetensors"): "a" * 64, ("model", "model_card.md"): "b" * 64}
MANIFEST: dict[str, Any] = {"seed": 0, "torch": {"threads": 1}}


def results(**changes: Any) -> Results:
    """A run, with some things different."""
    return Results(**{"points": LOSSES, "files": FILES, "manifest": MANIFEST, **changes})


@pytest.mark.parametrize(
    ("changes", "is_identical", "why"),
    [
        ({}, True, "nothing differs"),
        ({"points": {**LOSSES, (2, "loss"): 2.2500000000000004}}, False, "one bit of a loss"),
        ({"points": {**LOSSES, (2, "loss"): None}}, False, "one loss was not finite"),
        ({"points": {**LOSSES, (1, "tokens_per_second"): 9.0, (1, "mfu"): 0.5}}, True, "how fast the machine was"),
        ({"points": {(1, "loss"): 2.5}}, True, "a point only one of them reported"),
        ({"files": {**FILES, ("model", "model.safetensors"): "c" * 64}}, False, "the weights"),
        ({"files": {**FILES, ("model", "model_card.md"): "c" * 64}}, True, "the card, which has times in it"),
        ({"files": {("model", "model_card.md"): "b" * 64}}, False, "a file is missing"),
        ({"manifest": {**MANIFEST, "torch": {"threads": 2}}}, True, "other threads, the same outcome"),
        ({"manifest": None}, True, "no manifest"),
    ],
)
def test_what_counts(changes: dict[str, Any], is_identical: bool, why: str) -> None:
    assert compare(results(), results(**changes)).is_identical is is_identical, why
    assert compare(results(**changes), results()).is_identical is is_identical, why


def test_machine_metrics_are_never_compared() -> None:
    fast, slow = ({**LOSSES, (1, "tokens_per_second"): rate, (1, "peak_memory_bytes"): 3 * rate} for rate in (9.0, 5.0))
    found = compare(results(points=fast), results(points=slow))
    assert (found.is_identical, found.points) == (True, 3)


def test_the_first_difference_is_the_earliest_step() -> None:
    points = {(10, "loss"): 1.0, (9, "gradient_norm"): 0.5, (2, "loss"): 2.0}
    found = compare(results(points=points), results(points={**points, (10, "loss"): 1.1, (9, "gradient_norm"): 0.6}))
    assert [(each.step, each.metric, each.original, each.reproduction) for each in found.different_points] == [
        (9, "gradient_norm", 0.5, 0.6),
        (10, "loss", 1.0, 1.1),
    ]


def test_differences_of_the_manifests_are_named_by_their_place() -> None:
    found = compare(results(), results(manifest={"seed": 0, "torch": {"threads": 2}, "python": "3.12"}))
    assert [(each.field, each.original, each.reproduction) for each in found.different_fields] == [
        ("python", None, "3.12"),
        ("torch.threads", 1, 2),
    ]


def test_nothing_is_not_identical() -> None:
    assert not compare(results(points={}, files={}), results(points={}, files={})).is_identical
