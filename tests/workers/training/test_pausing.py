"""A recipe told a step pauses exactly there: validated, saved, and as if nothing had happened when it goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.workers.recipe import EXIT_SAVED

SIZE = {"hidden_size": 32, "intermediate_size": 64, "layers": 2, "heads": 2, "key_value_heads": 1}
PRETRAIN = {"kind": "pretrain", "name": "p", "dataset": "d", "vocabulary_size": 500, "architecture": SIZE, "sequence_length": 32}
FINETUNE = {"kind": "finetune", "name": "s", "model": "m", "dataset": "d", "sequence_length": 128}
SELDOM = {"micro_batch_size": 4, "steps": 5, "evaluate_every": 100, "save_every": 100}


def document(spec: dict[str, Any], folders: dict[str, Path], resume_from: Path | None, pause_at_step: int | None) -> Any:
    """What the runner tells a recipe."""
    return {
        "spec": {**spec, **SELDOM},
        "inputs": {place: {"path": str(folder), "type": place, "id": place, "name": place} for place, folder in folders.items()},
        "resume_from": str(resume_from) if resume_from else None,
        "options": {"pause_at_step": pause_at_step},
    }


class TestPauseAtStep:
    def test_pretraining_validates_and_saves_there(self, poems: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]) -> None:
        ranks = ranks_in(tmp_path / "run")
        assert ranks.run("pretrain", document(PRETRAIN, {"dataset": poems}, None, 3)) == [EXIT_SAVED], ranks.logs
        assert list(ranks.metric("loss")) == [1, 2, 3]
        assert list(ranks.metric("validation_loss")) == [0, 3]
        assert ranks.checkpoints() == ["step-00000003"]

    @pytest.mark.slow
    @pytest.mark.parametrize(("module", "spec"), [("pretrain", PRETRAIN), ("sft", FINETUNE)])
    def test_goes_on_as_if_it_had_never_paused(
        self, request: pytest.FixtureRequest, module: str, spec: dict[str, Any], tmp_path: Path, ranks_in: Callable[[Path], Any]
    ) -> None:
        names = {"dataset": "poems"} if module == "pretrain" else {"model": "tiny_model", "dataset": "chat_dataset"}
        folders = {place: request.getfixturevalue(name) for place, name in names.items()}
        parts, checkpoint = [], None
        for number, pause in enumerate((2, 4, None)):
            ranks = ranks_in(tmp_path / str(number))
            assert ranks.run(module, document(spec, folders, checkpoint, pause)) == [EXIT_SAVED if pause else 0], ranks.logs
            checkpoint = ranks.folder / "checkpoints" / f"step-{pause:08d}" if pause else None
            parts.append(ranks)
        assert [list(part.metric("loss")) for part in parts] == [[1, 2], [3, 4], [5]]
        assert [list(part.metric("validation_loss"))[-1] for part in parts] == [2, 4, 5]
        unbroken = ranks_in(tmp_path / "unbroken")
        assert unbroken.run(module, document(spec, folders, None, None)) == [0], unbroken.logs
        assert {step: loss for part in parts for step, loss in part.metric("loss").items()} == unbroken.metric("loss")
        assert parts[-1].metric("validation_loss")[5] == unbroken.metric("validation_loss")[5]
