"""Fine-tuning goes on under another number of ranks and another ZeRO stage, and learns what the unbroken run does."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from modelyard.workers.recipe import EXIT_SAVED
from tests.workers.training.test_sft_recipe import document

STEPS = 6
Start = Callable[..., Any]


@pytest.fixture
def start(tiny_model: Path, chat_dataset: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]) -> Start:
    """Run a part of a run: until it pauses after a step, or to its end."""

    def start(name: str, ranks: int, stage: int, until: int | None = None, resume_from: Path | None = None, **spec: Any) -> Any:
        group = ranks_in(tmp_path / name)
        seldom = {"steps": STEPS, "evaluate_every": STEPS, "save_every": STEPS}
        asked = document(tiny_model, chat_dataset, resume_from, **{**seldom, "deepspeed": {"zero_stage": stage}, **spec})
        asked["options"] = {"pause_at_step": until}
        code = EXIT_SAVED if until else 0
        assert group.run("sft", asked, ranks=ranks) == [code] * ranks, group.logs
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
def test_an_adapter(start: Start) -> None:
    """What does not learn is in no checkpoint, and no state of it is looked for."""
    unbroken = start("unbroken", 2, 1).metric("loss")
    losses = in_turn(start, [(2, 1), (1, 0), (2, 3)])
    assert list(losses) == list(range(1, STEPS + 1))
    # Other ranks add gradients up in another order.
    assert losses == pytest.approx(unbroken, rel=1e-4)


@pytest.mark.slow
def test_all_weights(start: Start) -> None:
    unbroken = start("unbroken", 2, 2, method="full").metric("loss")
    assert in_turn(start, [(2, 2), (1, 0)], method="full") == pytest.approx(unbroken, rel=1e-4)
