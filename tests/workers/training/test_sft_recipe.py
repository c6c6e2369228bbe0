"""Fine-tuning by real processes: it learns answers only, resumes exactly, and its merge is what it says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.kit.storage import verify_manifest
from modelyard.workers.recipe import EXIT_BAD_DATA, EXIT_SAVED

STEPS = 4


def document(model: Path, dataset: Path, resume_from: Path | None = None, **spec: Any) -> dict[str, Any]:
    small = {"sequence_length": 128, "micro_batch_size": 4, "steps": STEPS, "evaluate_every": 3, "save_every": 2}
    quick = {"optimizer": {"learning_rate": 0.01, "weight_decay": 0.0, "warmup_ratio": 0.0}}
    return {
        "spec": {"kind": "finetune", "name": "s", "model": "tiny", "dataset": "chats", **small, **quick, **spec},
        "inputs": {
            "model": {"path": str(model), "type": "model", "id": "model_1", "name": "tiny", "version": 1},
            "dataset": {"path": str(dataset), "type": "dataset", "id": "dataset_1", "name": "chats", "version": 1},
        },
        "resume_from": str(resume_from) if resume_from else None,
    }


@pytest.fixture(scope="module")
def unbroken(
    tiny_model: Path, chat_dataset: Path, tmp_path_factory: pytest.TempPathFactory, ranks_in: Callable[[Path], Any]
) -> Any:
    """A run of one rank, start to end."""
    ranks = ranks_in(tmp_path_factory.mktemp("unbroken") / "run")
    assert ranks.run("sft", document(tiny_model, chat_dataset)) == [0], ranks.logs
    return ranks


class TestFinetune:
    def test_the_validation_loss_falls_and_every_step_is_measured(self, unbroken: Any) -> None:
        losses = unbroken.metric("validation_loss")
        assert list(losses) == [0, 3, 4]
        assert losses[4] < losses[0]
        for name in ("loss", "learning_rate", "gradient_norm", "mean_token_accuracy"):
            assert list(unbroken.metric(name)) == [1, 2, 3, 4]
        assert all(norm > 0 for norm in unbroken.metric("gradient_norm").values())

    def test_the_merged_model_answers_as_base_and_adapter_do(self, unbroken: Any, tiny_model: Path) -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        outputs = unbroken.folder / "outputs"
        base = AutoModelForCausalLM.from_pretrained(tiny_model)
        merged = AutoModelForCausalLM.from_pretrained(outputs / "model")
        ids = AutoTokenizer.from_pretrained(outputs / "model")("the apple of house 61", return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            before = base(ids).logits
            adapted = PeftModel.from_pretrained(base, outputs / "adapter")(ids).logits
            assert torch.allclose(adapted, merged(ids).logits, atol=1e-4)
            assert not torch.allclose(adapted, before, atol=1e-2)
        assert 0 <= unbroken.metadata("model")["merge_difference"] <= 1e-4

    def test_outputs_hold_safetensors_and_no_trace_of_the_machine(self, unbroken: Any, tiny_model: Path) -> None:
        for name, role in (("adapter", "adapter"), ("model", "merged")):
            folder = unbroken.folder / "outputs" / name
            assert unbroken.metadata(name)["role"] == role
            assert [path.name for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pkl"}] == []
            assert list(folder.glob("*.safetensors"))
            for path in folder.iterdir():
                if path.suffix in {".json", ".md"}:
                    assert str(tiny_model) not in path.read_text(encoding="utf-8")

    def test_checkpoints_are_whole(self, unbroken: Any) -> None:
        assert unbroken.checkpoints() == ["step-00000002", "step-00000004"]
        for event in unbroken.events("checkpoint"):
            verify_manifest(unbroken.folder / event["path"])


class TestResume:
    @pytest.mark.slow
    def test_a_resumed_run_repeats_the_unbroken_one(
        self, unbroken: Any, tiny_model: Path, chat_dataset: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]
    ) -> None:
        first, second = ranks_in(tmp_path / "first"), ranks_in(tmp_path / "second")
        assert first.run("sft", document(tiny_model, chat_dataset), stop="drained") == [EXIT_SAVED], first.logs
        assert first.checkpoints() == ["step-00000001"]
        checkpoint = first.folder / "checkpoints" / "step-00000001"
        assert second.run("sft", document(tiny_model, chat_dataset, checkpoint)) == [0], second.logs
        assert first.metric("loss") | second.metric("loss") == unbroken.metric("loss")
        assert second.metric("validation_loss")[4] == unbroken.metric("validation_loss")[4]

    def test_a_run_whose_steps_are_all_done_only_hands_over(
        self, unbroken: Any, tiny_model: Path, chat_dataset: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]
    ) -> None:
        ranks = ranks_in(tmp_path / "run")
        checkpoint = unbroken.folder / "checkpoints" / "step-00000004"
        assert ranks.run("sft", document(tiny_model, chat_dataset, checkpoint)) == [0], ranks.logs
        assert ranks.events("metric") == []
        for name in ("model/model.safetensors", "adapter/adapter_model.safetensors", "adapter/adapter_config.json"):
            assert (ranks.folder / "outputs" / name).read_bytes() == (unbroken.folder / "outputs" / name).read_bytes()
        assert ranks.metadata("model")["validation_loss"] == unbroken.metadata("model")["validation_loss"]


class TestRefuse:
    def test_texts_and_prompts_that_fill_the_sequence(
        self, tiny_model: Path, chat_dataset: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]
    ) -> None:
        texts = tmp_path / "texts"
        texts.mkdir()
        (texts / "dataset.json").write_text(json.dumps({"schema": "text"}))
        wrong, full = ranks_in(tmp_path / "wrong"), ranks_in(tmp_path / "full")
        assert wrong.run("sft", document(tiny_model, texts)) == [EXIT_BAD_DATA]
        assert "schema `text`, but `chat` is needed" in wrong.events("error")[0]["message"]
        assert full.run("sft", document(tiny_model, chat_dataset, sequence_length=16)) == [EXIT_BAD_DATA]
        assert "raise sequence_length" in full.events("error")[0]["message"]


@pytest.mark.slow
@pytest.mark.parametrize(("zero_stage", "precision"), [(1, "fp32"), (2, "fp32"), (3, "fp32"), (1, "bf16")])
def test_two_ranks_learn_as_well(
    tiny_model: Path, chat_dataset: Path, tmp_path: Path, ranks_in: Callable[[Path], Any], zero_stage: int, precision: str
) -> None:
    group = ranks_in(tmp_path / "run")
    asked = document(tiny_model, chat_dataset, deepspeed={"zero_stage": zero_stage}, precision=precision)
    assert group.run("sft", asked, ranks=2) == [0, 0], group.logs
    losses = group.metric("validation_loss")
    assert losses[STEPS] < losses[0]
