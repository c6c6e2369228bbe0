"""Adapters on disk: written without traces of the machine, merged into their base, and the merge verified."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.workers.recipe import NotFinite, Run

ADAPTER_CONFIG = "adapter_config.json"
MERGE_TOLERANCE = {"fp32": 1e-5, "bf16": 0.025, "fp16": 0.01}
"""Largest allowed difference of a logit, as a share of the largest logit. Rounding merged weights moves logits near 20 by
about 2e-5 in fp32, and in the 8 bits of bf16 by tenths; fp16 has three bits more (0.003 was seen)."""


class MergeFailed(Exception):
    """The merged model answers differently from base and adapter together."""


@dataclass(frozen=True)
class Merge:
    """A merged model as it lies on disk."""

    difference: float
    """Largest difference of a logit between merged and adapted model, as a share of the largest logit."""
    parameters: int
    trainable_parameters: int


def save_adapter(run: Run[Any], engine: Any, folder: Path) -> None:
    """Write the adapter as safetensors. All ranks call this: under ZeRO 3 each holds a part only."""
    import deepspeed

    model = engine.module
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with deepspeed.zero.GatheredParameters(learned, enabled=engine.zero_optimization_stage() == 3):
        if run.rank == 0:
            # "auto" would ask a hub whether the vocabulary grew.
            model.save_pretrained(folder, save_embedding_layers=False)
            _remove_traces(run, folder)


def _remove_traces(run: Run[Any], folder: Path) -> None:
    """Remove a card written for a hub, and the path of the base model."""
    (folder / "README.md").unlink(missing_ok=True)
    path, base = folder / ADAPTER_CONFIG, run.input("model")
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base.name or base.path.name
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # a set in PEFT: its order would differ from run to run
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def merge_adapter(base: Path, adapter: Path, merged: Path, precision: str, sample: list[int]) -> Merge:
    """Merge an adapter into its base, save it as safetensors, and verify what was saved.

    Both sides of the comparison are read back from disk. `sample`: token ids to compare on.
    Raises `MergeFailed` above the tolerance, and `NotFinite` where there is nothing to compare.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    # Logits are computed one precision higher than the weights are stored in: what differs then is the merge,
    # not the rounding of two different orders of addition (1.2e-4 in fp32 over 30 layers).
    stored = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    exact = torch.float64 if precision == "fp32" else torch.float32
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=stored), adapter, is_trainable=True)
    trainable = adapted.num_parameters(only_trainable=True)
    expected = _logits(adapted, sample, exact)
    # Adding the product in the higher precision rounds every weight once only.
    adapted.merge_and_unload().to(stored).save_pretrained(merged)
    del adapted
    model = AutoModelForCausalLM.from_pretrained(merged, dtype=stored)
    found = _logits(model, sample, exact)
    if not (expected.isfinite().all() and found.isfinite().all()):
        raise NotFinite("the logits of the tuned model are not finite, adapted or merged; lower the learning rate")
    difference = float((expected - found).abs().max() / expected.abs().max())
    if not difference <= MERGE_TOLERANCE[precision]:
        raise MergeFailed(
            f"merged and adapted logits differ by {difference:.3g} of the largest, more than {MERGE_TOLERANCE[precision]:.3g}; "
            "use the adapter, or train in fp32"
        )
    return Merge(difference, model.num_parameters(), trainable)


def _logits(model: Any, sample: list[int], dtype: Any) -> Any:
    import torch

    model.eval().to(dtype)
    with torch.inference_mode():
        return model(torch.tensor([sample])).logits  # (1, sequence, vocabulary)
