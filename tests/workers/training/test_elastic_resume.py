"""A run goes on under another number of ranks and another ZeRO stage, and learns what the unbroken one does."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from modelyard.workers.recipe import EXIT_BAD_DATA, EXIT_SAVED
from tests.workers.training.test_pretrain_recipe import document

STEPS = 12
Start = Callable[..., Any]


@pytest.fixture
def start(poems: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]) -> Start:
    """Run a part of a run: until it pauses after a step, or to its end."""

    def start(name: str, ranks: int, stage: int, until: int | None = None, resume_from: Path | None = None, **spec: Any) -> Any:
        group = ranks_in(tmp_path / name)
        often = {"steps": STEPS, "evaluate_every": STEPS, "save_every": STEPS, "optimizer": {"learning_rate": 0.003}}
        asked = document(poems, resume_from, **{**often, "deepspeed": {"zero_stage": stage}, "micro_batch_size": 2, **spec})
        asked["options"] = {"pause_at_step": until}
        code = EXIT_SAVED if until else 0
        assert group.run("pretrain", asked, ranks=ranks) == [code] * ranks, group.logs
        return group

    return start


def in_turn(start: Start, shapes: Sequence[tuple[int, int]], **spec: Any) -> dict[int, float]:
    """Let each (ranks, stage) do an equal share of the steps; return the losses of all."""
    losses: dict[int, float] = {}
    checkpoint = None
    for number, (ranks, stage) in enumerate(shapes, start=1):
        until = STEPS // len(shapes) * number if number < len(shapes) else None
        part = start(f"part-{number}", ranks, stage, until, checkpoint, **spec)
        losses |= part.metric("loss")
        checkpoint = part.folder / "checkpoints" / f"step-{until or STEPS:08d}"
    return losses


@pytest.mark.slow
def test_the_losses_stay_those_of_the_unbroken_run(start: Start) -> None:
    """Not to the last bit: other ranks add gradients up in another order."""
    unbroken = start("unbroken", 2, 1).metric("loss")
    losses = in_turn(start, [(2, 1), (1, 1), (2, 2), (1, 0), (2, 3), (2, 1)])
    assert list(losses) == list(range(1, STEPS + 1))
    assert losses == pytest.approx(unbroken, rel=1e-5)


@pytest.mark.slow
def test_in_16_bits_too(start: Start) -> None:
    """Each rank keeps weights of 32 bits beside those of 16, also without ZeRO."""
    unbroken = start("unbroken", 2, 1, precision="bf16").metric("loss")
    # Sums of 16-bit gradients depend on how they are cut.
    assert in_turn(start, [(2, 1), (1, 0)], precision="bf16") == pytest.approx(unbroken, rel=1e-3)


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_out_is_refused(start: Start, poems: Path, tmp_path: Path, ranks_in: Any) -> None:
    first = start("first", 1, 0, until=2, micro_batch_size=3)
    group = ranks_in(tmp_path / "second")
    again = document(poems, first.folder / "checkpoints" / "step-00000002", steps=STEPS, micro_batch_size=3)
    assert group.run("pretrain", again, ranks=2) == [EXIT_BAD_DATA] * 2
    assert "3 is not a multiple of micro_batch_size 3 × 2 ranks" in group.events("error")[0]["message"]
