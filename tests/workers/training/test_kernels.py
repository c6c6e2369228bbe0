"""Whose kernels a model's layers get: a table of choices, and Liger's own patching where that package is installed."""

import json
from pathlib import Path
from typing import Any

import pytest

from modelyard.domain.specs.finetuning import FinetuneSpec
from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.workers.recipe import RUN_MANIFEST, BadData, Run
from modelyard.workers.training.kernels import apply_kernels, choose_kernels

AT_HAND = {"is_installed": True, "knows": True, "compiles": False}


def run_on(device: str, folder: Path = Path(), **spec: Any) -> Run[Any]:
    """A pre-training on a device."""
    return Run(PretrainSpec(name="p", dataset="d", **spec), folder, {}, device=device)


class TestChoose:
    @pytest.mark.parametrize(
        ("wanted", "device", "facts", "chosen"),
        [
            ("auto", "cuda", {}, "liger"),
            ("liger", "cuda", {}, "liger"),
            ("off", "cuda", {}, "torch"),
            ("auto", "cpu", {}, "torch"),
            ("auto", "cuda", {"is_installed": False}, "torch"),
            ("auto", "cuda", {"knows": False}, "torch"),
            ("auto", "cuda", {"compiles": True}, "torch"),
        ],
    )
    def test_takes_what_is_at_hand(self, wanted: str, device: str, facts: dict[str, bool], chosen: str) -> None:
        assert choose_kernels(run_on(device, kernels=wanted), "llama", **{**AT_HAND, **facts}) == chosen

    def test_bits_that_repeat_come_first(self) -> None:
        assert choose_kernels(run_on("cuda", deterministic=True), "llama", **AT_HAND) == "torch"

    @pytest.mark.parametrize(
        ("device", "facts", "reason"),
        [
            ("cpu", {}, "kernels liger: it needs a GPU, and this job runs on a CPU; set kernels to auto"),
            ("cuda", {"is_installed": False}, "liger-kernel is not installed on this worker"),
            ("cuda", {"knows": False}, "liger-kernel does not know the model type gpt2"),
            ("cuda", {"compiles": True}, "the layers are compiled"),
        ],
    )
    def test_what_was_asked_for_and_cannot_be_had(self, device: str, facts: dict[str, bool], reason: str) -> None:
        with pytest.raises(BadData) as caught:
            choose_kernels(run_on(device, kernels="liger"), "gpt2", **{**AT_HAND, **facts})
        assert reason in str(caught.value)


def test_the_choice_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    run = Run(FinetuneSpec(name="f", dataset="d", model="m"), tmp_path, {})
    (tmp_path / RUN_MANIFEST).write_text(json.dumps({"seed": 17}))
    assert apply_kernels(run, AutoModelForCausalLM.from_pretrained(tiny_model), compiles=False) == "torch"
    manifest = json.loads((tmp_path / RUN_MANIFEST).read_text())
    assert (manifest["seed"], manifest["kernels"]) == (17, "torch")
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event.get("values") or event["manifest"] for event in events] == [{"kernels": "torch"}, manifest]
    assert "kernels of the layers" not in capsys.readouterr().err, "plain ones go without saying"


def test_liger_takes_the_layers_and_leaves_the_loss(tmp_path: Path, tiny_model: Path) -> None:
    """Its functions are put in; they are not run, which takes a GPU."""
    pytest.importorskip("liger_kernel.transformers", reason="liger-kernel is not installed (pip install liger-kernel triton)")
    from transformers import AutoModelForCausalLM
    from transformers.models.llama import modeling_llama

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    rotate, forward = modeling_llama.apply_rotary_pos_emb, type(model).forward
    try:
        assert apply_kernels(run_on("cuda", tmp_path, kernels="liger"), model, compiles=False) == "liger"
        layer = model.model.layers[0]
        for changed in (layer.mlp.forward, layer.input_layernorm.forward, model.model.norm.forward):
            assert "liger" in changed.__func__.__module__
        assert "liger" in modeling_llama.apply_rotary_pos_emb.__module__
        assert model.forward.__func__ is forward
    finally:
        modeling_llama.apply_rotary_pos_emb = rotate
