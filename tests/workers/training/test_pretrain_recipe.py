"""Pre-training by real ranks: it learns, it resumes exactly, it says why it stops."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.kit.storage import verify_manifest
from modelyard.workers.recipe import EXIT_BAD_DATA, EXIT_NAN, EXIT_SAVED

STEPS = 12


def document(dataset: Path, resume_from: Path | None = None, **spec: Any) -> dict[str, Any]:
    size = {"hidden_size": 32, "intermediate_size": 64, "layers": 2, "heads": 2, "key_value_heads": 1}
    small = {"vocabulary_size": 500, "architecture": size, "sequence_length": 32, "micro_batch_size": 4, "steps": STEPS}
    often = {"evaluate_every": 6, "save_every": 6, "optimizer": {"learning_rate": 0.02}}
    return {
        "spec": {"kind": "pretrain", "name": "p", "dataset": "poems", **small, **often, **spec},
        "inputs": {"dataset": {"path": str(dataset), "type": "dataset", "id": "dataset_1", "name": "poems", "version": 1}},
        "resume_from": str(resume_from) if resume_from else None,
    }


@pytest.fixture(scope="module")
def unbroken(poems: Path, tmp_path_factory: pytest.TempPathFactory, ranks_in: Callable[[Path], Any]) -> Any:
    """A run of two ranks under ZeRO 1, start to end."""
    ranks = ranks_in(tmp_path_factory.mktemp("unbroken") / "run")
    assert ranks.run("pretrain", document(poems), ranks=2) == [0, 0], ranks.logs
    return ranks


class TestPretrain:
    def test_the_validation_loss_falls(self, unbroken: Any) -> None:
        losses = unbroken.metric("validation_loss")
        assert list(losses) == [0, 6, 12]
        assert losses[12] < losses[6] < losses[0]
        # An untrained model guesses about evenly among 500 tokens: ln 500 is 6.2.
        assert 6.0 < losses[0] < 6.5

    def test_every_step_is_measured(self, unbroken: Any) -> None:
        for name in ("loss", "learning_rate", "gradient_norm", "tokens_per_second"):
            values = unbroken.metric(name)
            assert list(values) == list(range(1, STEPS + 1))
            assert all(value > 0 for value in values.values())

    def test_what_steps_cost_the_machine_is_measured_and_the_slowest_rank_named(self, unbroken: Any) -> None:
        assert list(unbroken.metric("model_flops_per_second")) == list(range(1, STEPS + 1))
        assert "mfu" not in unbroken.events("metric")[0]["values"], "there is no peak of a processor to hold it against"
        looks = [1, 10, STEPS]
        slowest, fastest = unbroken.metric("slowest_forward_seconds"), unbroken.metric("fastest_forward_seconds")
        assert list(slowest) == looks
        assert all(0 < fastest[step] <= slowest[step] < 60 for step in looks)
        assert set(unbroken.metric("slowest_rank").values()) <= {0.0, 1.0}
        assert all(0 <= share < 1 for share in unbroken.metric("data_wait_share").values())
        assert all(50e6 < peak < 20e9 for peak in unbroken.metric("peak_memory_bytes").values())

    def test_what_it_ran_with_is_told_and_lies_beside_the_model(self, unbroken: Any) -> None:
        first, manifest = (event["manifest"] for event in unbroken.events("manifest"))
        assert manifest == {**first, "kernels": "torch"}, "what showed later was added"
        assert (manifest["world_size"], manifest["device"], manifest["spec"]["steps"]) == (2, "cpu", STEPS)
        assert manifest["torch"]["threads"] == 1
        assert str(unbroken.folder.parent) not in json.dumps(manifest)
        assert json.loads((unbroken.folder / "outputs" / "model" / "run_manifest.json").read_text()) == manifest

    def test_the_model_loads_from_safetensors_and_scores_as_reported(self, unbroken: Any) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = unbroken.folder / "outputs" / "model"
        assert {"model.safetensors", "model_card.md"} <= {path.name for path in folder.iterdir()}
        assert not [path for path in folder.iterdir() if path.suffix in {".pt", ".bin", ".pkl"}]
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        metadata = unbroken.metadata("model")
        assert metadata["role"] == "pretrained"
        assert metadata["parameters"] == model.num_parameters()
        assert metadata["validation_perplexity"] < metadata["validation_perplexity_first"]
        assert tokenizer.pad_token_id != tokenizer.eos_token_id
        text = "Löve 42 is not love\n\tWhich alters"
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text

    def test_checkpoints_are_whole(self, unbroken: Any) -> None:
        assert unbroken.checkpoints() == ["step-00000006", "step-00000012"]
        for event in unbroken.events("checkpoint"):
            verify_manifest(unbroken.folder / event["path"])

    def test_the_log_holds_no_chatter(self, unbroken: Any) -> None:
        lines = "".join(unbroken.logs).splitlines()
        assert lines, "it says how far it is"
        assert [line for line in lines if not re.match(r" *\d+%  ", line)] == []


class TestResume:
    @pytest.mark.slow
    def test_a_resumed_run_repeats_the_unbroken_one(
        self, unbroken: Any, poems: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]
    ) -> None:
        first, second = ranks_in(tmp_path / "first"), ranks_in(tmp_path / "second")
        assert first.run("pretrain", document(poems), ranks=2, stop="paused") == [EXIT_SAVED] * 2, first.logs
        assert first.checkpoints() == ["step-00000001"]
        checkpoint = first.folder / "checkpoints" / "step-00000001"
        assert second.run("pretrain", document(poems, checkpoint), ranks=2) == [0, 0], second.logs
        assert first.metric("loss") | second.metric("loss") == unbroken.metric("loss")
        assert second.metric("validation_loss")[12] == unbroken.metric("validation_loss")[12]
        assert (
            second.metadata("model")["validation_perplexity_first"] == unbroken.metadata("model")["validation_perplexity_first"]
        )

    @pytest.mark.slow
    def test_a_run_whose_steps_are_all_done_only_hands_over(
        self, unbroken: Any, poems: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]
    ) -> None:
        ranks = ranks_in(tmp_path / "run")
        checkpoint = unbroken.folder / "checkpoints" / "step-00000012"
        assert ranks.run("pretrain", document(poems, checkpoint), ranks=2) == [0, 0], ranks.logs
        assert ranks.events("metric") == []
        weights = [run.folder / "outputs" / "model" / "model.safetensors" for run in (unbroken, ranks)]
        assert weights[0].read_bytes() == weights[1].read_bytes()


class TestRefuse:
    def test_training_that_diverges(self, poems: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]) -> None:
        ranks = ranks_in(tmp_path / "run")
        hopeless = {"learning_rate": 1e30, "warmup_ratio": 0}
        assert ranks.run("pretrain", document(poems, optimizer=hopeless)) == [EXIT_NAN], ranks.logs
        assert "lower learning_rate 1e+30" in ranks.events("error")[0]["message"]

    def test_chats_and_texts_too_short(
        self, chat_dataset: Path, poems: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]
    ) -> None:
        chats, short = ranks_in(tmp_path / "chats"), ranks_in(tmp_path / "short")
        assert chats.run("pretrain", document(chat_dataset)) == [EXIT_BAD_DATA]
        assert "schema `chat`, but `text` is needed" in chats.events("error")[0]["message"]
        assert short.run("pretrain", document(poems, sequence_length=100_000)) == [EXIT_BAD_DATA]
        assert "one sequence of 100000 and the token after it" in short.events("error")[0]["message"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("zero_stage", "precision", "ranks"), [(0, "fp32", 1), (0, "fp32", 2), (2, "fp32", 2), (3, "fp32", 2), (1, "bf16", 2)]
)
def test_other_stages_learn_as_well(
    poems: Path, tmp_path: Path, ranks_in: Callable[[Path], Any], zero_stage: int, precision: str, ranks: int
) -> None:
    group = ranks_in(tmp_path / "run")
    asked = document(poems, deepspeed={"zero_stage": zero_stage}, precision=precision, gradient_accumulation_steps=2)
    assert group.run("pretrain", asked, ranks=ranks) == [0] * ranks, group.logs
    losses = group.metric("validation_loss")
    assert losses[STEPS] < losses[0] - 0.3
    assert all(norm > 0 for norm in group.metric("gradient_norm").values())
    assert (group.folder / "outputs" / "model" / "model.safetensors").stat().st_size > 50_000
