"""Fine-tuning by real processes: each method learns what it should, resumes exactly, and hands over what it says."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.kit.storage import verify_manifest
from modelyard.workers.recipe import EXIT_BAD_DATA, EXIT_SAVED

STEPS = 4
GOLDEN = {
    "full": [7.80927, 6.37361],
    "lora": [7.80927, 7.67717],
    "dora": [7.80927, 7.66960],
}
"""The training losses of two steps. They change only when the mathematics do."""

Start = Callable[..., Any]


def document(model: Path, dataset: Path, resume_from: Path | None = None, **spec: Any) -> dict[str, Any]:
    small = {"sequence_length": 128, "micro_batch_size": 2, "steps": STEPS, "evaluate_every": 3, "save_every": 2}
    quick = {"optimizer": {"learning_rate": 0.01, "weight_decay": 0.0, "warmup_ratio": 0.0}}
    return {
        "spec": {"kind": "finetune", "name": "s", "model": "tiny", "dataset": "chats", **small, **quick, **spec},
        "inputs": {
            "model": {"path": str(model), "type": "model", "id": "model_1", "name": "tiny", "version": 1},
            "dataset": {"path": str(dataset), "type": "dataset", "id": "dataset_1", "name": "chats", "version": 1},
        },
        "resume_from": str(resume_from) if resume_from else None,
    }


@pytest.fixture
def start(tiny_model: Path, chat_dataset: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]) -> Start:
    """Run the recipe in a folder of that name and return its ranks; fails unless it ends as expected."""

    def start(
        name: str, code: int = 0, ranks: int = 1, stop: str | None = None, resume_from: Path | None = None, **spec: Any
    ) -> Any:
        started = ranks_in(tmp_path / name)
        asked = document(tiny_model, chat_dataset, resume_from, **spec)
        assert started.run("sft", asked, ranks=ranks, stop=stop) == [code] * ranks, started.logs
        return started

    return start


@pytest.fixture(scope="module")
def unbroken(
    tiny_model: Path, chat_dataset: Path, tmp_path_factory: pytest.TempPathFactory, ranks_in: Callable[[Path], Any]
) -> Any:
    """A run of one rank with LoRA, start to end."""
    ranks = ranks_in(tmp_path_factory.mktemp("unbroken") / "run")
    assert ranks.run("sft", document(tiny_model, chat_dataset)) == [0], ranks.logs
    return ranks


def logits(folder: Path, adapter: Path | None = None) -> Any:
    """What a model says after a fixed text."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter).to(torch.float64)
    with torch.inference_mode():
        return model(torch.arange(20, 60)[None]).logits


class TestFinetune:
    def test_the_validation_loss_falls_and_every_step_is_measured(self, unbroken: Any) -> None:
        losses = unbroken.metric("validation_loss")
        assert list(losses) == [0, 3, 4]
        assert losses[4] < losses[0]
        for name in ("loss", "learning_rate", "gradient_norm", "mean_token_accuracy", "tokens_per_second"):
            assert list(unbroken.metric(name)) == [1, 2, 3, 4]
        assert all(norm > 0 for norm in unbroken.metric("gradient_norm").values())
        assert list(unbroken.metric("model_flops_per_second")) == [1, 2, 3, 4]
        assert list(unbroken.metric("data_wait_share")) == list(unbroken.metric("peak_memory_bytes")) == [1, 4]
        assert "slowest_rank" not in unbroken.events("metric")[1]["values"], "there is only one"

    @pytest.mark.parametrize("method", ["lora", "dora"])
    def test_the_merged_model_answers_as_base_and_adapter_do(
        self, request: pytest.FixtureRequest, start: Start, tiny_model: Path, method: str
    ) -> None:
        ranks = request.getfixturevalue("unbroken") if method == "lora" else start("dora", method="dora", steps=2)
        outputs = ranks.folder / "outputs"
        adapted, merged, before = logits(tiny_model, outputs / "adapter"), logits(outputs / "model"), logits(tiny_model)
        assert (adapted - merged).abs().max() <= 1e-5
        assert (adapted - before).abs().max() > 1e-2
        assert 0 < ranks.metadata("model")["merge_difference"] <= 1e-5
        if method == "dora":
            assert list(ranks.metric("loss").values()) == pytest.approx(GOLDEN["dora"], abs=1e-4)

    def test_outputs_hold_safetensors_and_no_trace_of_the_machine(self, unbroken: Any, tiny_model: Path) -> None:
        for name, role in (("adapter", "adapter"), ("model", "merged")):
            folder = unbroken.folder / "outputs" / name
            assert unbroken.metadata(name)["role"] == role
            assert [path.name for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pkl"}] == []
            assert list(folder.glob("*.safetensors"))
            for path in folder.iterdir():
                if path.suffix in {".json", ".md"}:
                    assert str(tiny_model) not in path.read_text(encoding="utf-8")

    def test_full_fine_tuning_makes_a_model_and_no_adapter(self, start: Start, tiny_model: Path) -> None:
        ranks = start("full", method="full", steps=2)
        assert list(ranks.metric("loss").values()) == pytest.approx(GOLDEN["full"], abs=1e-4)
        assert [event["name"] for event in ranks.events("output")] == ["model"]
        folder = ranks.folder / "outputs" / "model"
        found = ranks.metadata("model")
        assert (found["role"], found["method"]) == ("tuned", "full")
        assert found["parameters"] == found["trainable_parameters"] == 44_192
        assert (logits(folder) - logits(tiny_model)).abs().max() > 1e-2
        assert json.loads((folder / "config.json").read_text())["use_cache"] is True
        assert (folder / "chat_template.jinja").read_text() == (tiny_model / "chat_template.jinja").read_text()
        card = (folder / "model_card.md").read_text()
        for fact in (
            "| dataset lineage | /v1/datasets/dataset_1/lineage |",
            "| base | tiny |",
            "| dataset | chats |",
            "| version | 1 |",
            "| method | full |",
        ):
            assert fact in card
        assert "lora" not in card

    def test_a_template_of_the_specs_own_is_kept(self, start: Start) -> None:
        template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|im_end|>{% endfor %}"
        ranks = start(
            "template", chat_template=template, steps=1, loss_on="all", packing=False, lora={"target_modules": "all-linear"}
        )
        assert (ranks.folder / "outputs" / "model" / "chat_template.jinja").read_text() == template
        adapter = json.loads((ranks.folder / "outputs" / "adapter" / "adapter_config.json").read_text())
        assert {name.rsplit(".", 1)[-1] for name in adapter["target_modules"]} >= {"q_proj", "o_proj", "down_proj"}


class TestNormalize:
    def test_a_token_weighs_the_same_wherever_it_lies(self, unbroken: Any, start: Start) -> None:
        assert list(unbroken.metric("loss").values())[:2] == pytest.approx(GOLDEN["lora"], abs=1e-4)
        split = start("split", micro_batch_size=1, global_batch_size=2, activation_checkpointing=True)
        for name in ("loss", "gradient_norm", "validation_loss"):
            assert split.metric(name) == pytest.approx(unbroken.metric(name), rel=1e-4)

    @pytest.mark.slow
    def test_two_ranks_learn_what_one_does(self, unbroken: Any, start: Start) -> None:
        pair = start("pair", ranks=2, micro_batch_size=1)
        for name in ("loss", "gradient_norm", "validation_loss"):
            assert pair.metric(name) == pytest.approx(unbroken.metric(name), rel=1e-4)


class TestResume:
    def test_checkpoints_are_whole_and_hold_the_adapter_only(self, unbroken: Any, tiny_model: Path) -> None:
        assert unbroken.checkpoints() == ["step-00000002", "step-00000004"]
        for event in unbroken.events("checkpoint"):
            verify_manifest(unbroken.folder / event["path"])
        state = unbroken.folder / "checkpoints" / "step-00000002" / "state" / "mp_rank_00_model_states.pt"
        assert state.stat().st_size < (tiny_model / "model.safetensors").stat().st_size

    @pytest.mark.parametrize(
        "spec",
        [
            {"lora": {"dropout": 0.1}, "gradient_accumulation_steps": 2},
            {"method": "full", "packing": False, "optimizer": {"name": "muon"}},
        ],
    )
    def test_a_resumed_run_repeats_the_unbroken_one(self, start: Start, spec: dict[str, Any]) -> None:
        whole = start("whole", **spec)
        first = start("first", stop="drained", code=EXIT_SAVED, **spec)
        assert first.checkpoints() == ["step-00000001"]
        second = start("second", resume_from=first.folder / "checkpoints" / "step-00000001", **spec)
        for name in ("loss", "gradient_norm"):
            assert first.metric(name) | second.metric(name) == whole.metric(name)
        assert second.metric("validation_loss")[4] == whole.metric("validation_loss")[4]

    def test_a_run_whose_steps_are_all_done_only_hands_over(self, unbroken: Any, start: Start) -> None:
        ranks = start("done", resume_from=unbroken.folder / "checkpoints" / "step-00000004")
        assert ranks.events("metric") == []
        for name in ("model/model.safetensors", "adapter/adapter_model.safetensors", "adapter/adapter_config.json"):
            assert (ranks.folder / "outputs" / name).read_bytes() == (unbroken.folder / "outputs" / name).read_bytes()
        assert ranks.metadata("model")["validation_loss"] == unbroken.metadata("model")["validation_loss"]


class TestRefuse:
    def test_ranks_that_cannot_share_the_batch_it_began_with(self, unbroken: Any, start: Start) -> None:
        checkpoint = unbroken.folder / "checkpoints" / "step-00000002"
        ranks = start("others", code=EXIT_BAD_DATA, ranks=2, resume_from=checkpoint)
        message = ranks.events("error")[0]["message"]
        assert "2 is not a multiple of micro_batch_size 2 × 2 ranks = 4; set micro_batch_size to 1" in message

    @pytest.mark.parametrize(
        ("spec", "says"),
        [
            ({"sequence_length": 16}, "raise sequence_length"),
            ({"sequence_length": 512}, "sequence_length 512 is more than the 256 tokens the model reads; set it to 256 or less"),
            (
                {"lora": {"target_modules": ["q_proj", "query"]}},
                "the model has no query; it has down_proj, .*, or choose all-linear",
            ),
            ({"precision": "fp16"}, "precision fp16 needs a GPU"),
            ({"kernels": "liger"}, "kernels liger: it needs a GPU"),
            ({"method": "qlora"}, "4-bit weights need a GPU, and this job runs on a CPU; choose lora"),
        ],
    )
    def test_what_cannot_work(self, start: Start, spec: dict[str, Any], says: str) -> None:
        ranks = start("refused", code=EXIT_BAD_DATA, **spec)
        assert ranks.events("metric") == []
        (error,) = ranks.events("error")
        assert error["reason"] == "bad_data"
        assert re.search(says, error["message"]), error["message"]

    def test_texts(self, tiny_model: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]) -> None:
        texts, wrong = tmp_path / "texts", ranks_in(tmp_path / "wrong")
        texts.mkdir()
        (texts / "dataset.json").write_text(json.dumps({"schema": "text"}))
        assert wrong.run("sft", document(tiny_model, texts)) == [EXIT_BAD_DATA]
        assert "schema `text`, but `chat` is needed" in wrong.events("error")[0]["message"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("zero_stage", "precision", "method"),
    [(1, "fp32", "lora"), (2, "fp32", "lora"), (3, "fp32", "dora"), (3, "fp32", "full"), (1, "bf16", "lora")],
)
def test_two_ranks_learn_as_well(start: Start, zero_stage: int, precision: str, method: str) -> None:
    group = start("run", ranks=2, deepspeed={"zero_stage": zero_stage}, precision=precision, method=method)
    losses = group.metric("validation_loss")
    assert losses[STEPS] < losses[0]
