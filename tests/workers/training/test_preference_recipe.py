"""Preference tuning by real processes: each objective learns which answers are wanted, resumes exactly, and says by how much."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.workers.recipe import EXIT_BAD_DATA, EXIT_SAVED

STEPS = 4
GOLDEN = {"dpo": [0.69315, 0.36138], "orpo": [7.28885, 6.99510], "kto": [0.5, 0.41998]}
"""The training losses of two steps. They change only when the mathematics do."""

Start = Callable[..., Any]


def write_judged(folder: Path, schema: str, count: int = 24) -> Path:
    """Write questions whose short answers are wanted and whose long ones are not."""
    for split, first, rows in (("train", 0, count), ("heldout", count, count // 3)):
        lines = [json.dumps(judged(schema, number)) + "\n" for number in range(first, first + rows)]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    (folder / "dataset.json").write_text(json.dumps({"schema": schema}))
    return folder


def judged(schema: str, number: int) -> dict[str, Any]:
    asked = [{"role": "user", "content": f"What can you tell me about the river of house {number}?"}]
    good, bad = f"The river is number {number}.", f"The castle of the winter is a letter about engine {number} and why."
    if schema == "preference":
        return {"messages": asked, "chosen": good, "rejected": bad}
    is_good = number % 2 == 0
    return {"messages": [*asked, {"role": "assistant", "content": good if is_good else bad}], "label": is_good}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of prepared datasets by schema."""
    return {schema: write_judged(tmp_path_factory.mktemp(schema), schema) for schema in ("preference", "rated")}


@pytest.fixture
def start(tiny_model: Path, datasets: dict[str, Path], tmp_path: Path, ranks_in: Callable[[Path], Any]) -> Start:
    """Run the recipe in a folder of that name and return its ranks; fails unless it ends as expected."""

    def start(
        name: str, schema: str = "preference", code: int = 0, ranks: int = 1, stop: str | None = None,
        resume_from: Path | None = None, **spec: Any,
    ) -> Any:  # fmt: skip
        small = {"sequence_length": 128, "micro_batch_size": 2, "steps": STEPS, "evaluate_every": 100, "save_every": 100}
        quick = {"optimizer": {"learning_rate": 0.01, "weight_decay": 0.0, "warmup_ratio": 0.0}}
        document = {
            "spec": {"kind": "preference", "name": "p", "model": "tiny", "dataset": "judged", **small, **quick, **spec},
            "inputs": {
                "model": {"path": str(tiny_model), "type": "model", "id": "model_1", "name": "tiny", "version": 1},
                "dataset": {"path": str(datasets[schema]), "type": "dataset", "id": "dataset_1", "name": "judged", "version": 1},
            },
            "resume_from": str(resume_from) if resume_from else None,
        }
        started = ranks_in(tmp_path / name)
        assert started.run("preference", document, ranks=ranks, stop=stop) == [code] * ranks, started.logs
        return started

    return start


class TestPrefer:
    @pytest.mark.parametrize(("objective", "schema"), [("dpo", "preference"), ("orpo", "preference"), ("kto", "rated")])
    def test_learns_what_is_wanted(self, start: Start, objective: str, schema: str) -> None:
        ranks = start(objective, schema, objective=objective)
        losses = ranks.metric("loss")
        assert list(losses.values())[:2] == pytest.approx(GOLDEN[objective], abs=1e-4)
        found = ranks.metadata("model")
        assert found["validation_loss"] < found["validation_loss_first"]
        assert found["validation_reward_margin"] > found["validation_reward_margin_first"]
        if objective != "orpo":
            # Before the first step the model is its own reference.
            assert found["validation_reward_margin_first"] == 0
            assert found["validation_reward_accuracy_first"] == 0.5 < found["validation_reward_accuracy"]
        card = (ranks.folder / "outputs" / "model" / "model_card.md").read_text()
        assert f"| objective | {objective} |" in card
        assert set(ranks.metric("model_flops_per_second")) == set(losses)
        assert all(0 <= share < 1 for share in ranks.metric("data_wait_share").values())
        assert ranks.events("figures")[-1]["values"]["peak_memory_bytes"] > 0
        assert (ranks.folder / "outputs" / "adapter" / "adapter_model.safetensors").exists()

    def test_packing_and_rounds_change_nothing(self, start: Start) -> None:
        whole, split = (
            start("whole", steps=2),
            start("split", steps=2, packing=False, micro_batch_size=1, global_batch_size=2),
        )
        for name in ("loss", "gradient_norm", "reward_margin", "validation_loss", "validation_reward_margin"):
            assert split.metric(name) == pytest.approx(whole.metric(name), rel=1e-3, abs=1e-6)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("zero_stage", "schema", "spec"),
        [(0, "rated", {"objective": "kto"}), (2, "preference", {}), (3, "preference", {}),
         (3, "preference", {"objective": "orpo", "method": "full"})],
    )  # fmt: skip
    def test_two_ranks_learn_what_one_does(self, start: Start, zero_stage: int, schema: str, spec: dict[str, Any]) -> None:
        alone = start("alone", schema, steps=2, **spec)
        pair = start("pair", schema, ranks=2, micro_batch_size=1, steps=2, deepspeed={"zero_stage": zero_stage}, **spec)
        for name in ("loss", "validation_loss", "reward_accuracy"):
            assert pair.metric(name) == pytest.approx(alone.metric(name), rel=1e-3)


class TestResume:
    def test_a_resumed_run_repeats_the_unbroken_one(self, start: Start) -> None:
        spec = {"lora": {"dropout": 0.1}, "steps": 3}
        whole, first = start("whole", **spec), start("first", stop="drained", code=EXIT_SAVED, **spec)
        second = start("second", resume_from=first.folder / "checkpoints" / "step-00000001", **spec)
        for name in ("loss", "gradient_norm", "reward_margin"):
            assert first.metric(name) | second.metric(name) == whole.metric(name)
        for name in ("validation_reward_accuracy_first", "validation_reward_accuracy"):
            assert second.metadata("model")[name] == whole.metadata("model")[name]


class TestRefuse:
    @pytest.mark.parametrize(
        ("schema", "spec", "says"),
        [
            ("preference", {"sequence_length": 16}, "of 24 rows the answers are beyond or equal within 16 tokens; raise"),
            ("preference", {"objective": "kto"}, "schema `preference`, but `rated` is needed; prepare it with `schema: rated`"),
            ("rated", {}, "schema `rated`, but `preference` is needed"),
        ],
    )
    def test_what_cannot_work(self, start: Start, schema: str, spec: dict[str, Any], says: str) -> None:
        (error,) = start("refused", schema, code=EXIT_BAD_DATA, **spec).events("error")
        assert error["reason"] == "bad_data"
        assert re.search(says, error["message"]), error["message"]
