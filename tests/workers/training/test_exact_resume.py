"""Killed again and again at any moment, a run goes on to the last bit as if nothing had happened."""

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.kit.storage import verify_manifest
from tests.workers.training.test_pretrain_recipe import document

KILLS = 20
STEPS = 30


@pytest.mark.slow
def test_twenty_kills_change_no_bit_of_any_loss(poems: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]) -> None:
    chance = random.Random(11)  # noqa: S311 - not a secret
    often: dict[str, Any] = {"steps": STEPS, "save_every": 1, "evaluate_every": STEPS, "gradient_accumulation_steps": 2}
    unbroken = ranks_in(tmp_path / "unbroken")
    assert unbroken.run("pretrain", document(poems, **often)) == [0], unbroken.logs
    expected = unbroken.metric("loss")

    checkpoint, done, reached, kills = None, 0, 0, 0
    while reached < STEPS:
        attempt = ranks_in(tmp_path / f"attempt-{kills}")
        # It may go on from further back than it was killed, as the checkpoint being written then is lost.
        last = min(STEPS, done + chance.choice([1, 2, 2, 3])) if kills < KILLS else STEPS
        is_killed = kills < KILLS
        codes = attempt.run_killed(document(poems, checkpoint, **often), last) if is_killed else attempt.run(
            "pretrain", document(poems, checkpoint, **often)
        )  # fmt: skip
        assert codes == [-signal.SIGKILL if is_killed else 0], attempt.logs
        losses = attempt.metric("loss")
        assert losses == {step: expected[step] for step in losses}, f"after {kills} kills"
        reached = max(losses) if not is_killed else reached
        kills += is_killed
        whole = [name for name in attempt.checkpoints() if name.startswith("step-")]
        if whole:
            checkpoint = attempt.folder / "checkpoints" / whole[-1]
            verify_manifest(checkpoint)
            done = int(whole[-1].split("-")[1])
    assert kills == KILLS
    assert attempt.metric("validation_loss")[STEPS] == unbroken.metric("validation_loss")[STEPS]
