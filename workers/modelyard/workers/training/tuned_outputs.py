"""What a fine-tuning run hands over: the model, its adapter where it has one, and cards that say where they come from."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.workers.model_card import describe_origin, write_model_card
from modelyard.workers.recipe import Run
from modelyard.workers.training.architecture import save_model
from modelyard.workers.training.lora import merge_adapter, save_adapter
from modelyard.workers.training.tuned_model import Tuning

MERGE_SAMPLE_TOKENS = 64


@dataclass(frozen=True)
class Lesson:
    """What outputs say about how they were made, and what their merge is checked with."""

    tokenizer: Any
    sample: list[int]
    """Token ids of one conversation."""
    summary: str
    """A sentence for the card."""
    settings: dict[str, Any]
    """Values of the spec that only this kind has."""


def save_weights(run: Run[Tuning], engine: Any, tokenizer: Any) -> None:
    """Write what was learned: an adapter, or the whole model. All ranks call this: under ZeRO 3 each holds a part only."""
    if run.spec.method == "full":
        save_model(engine, engine.module, tokenizer, run.output_folder("model"), run.rank)
    else:
        save_adapter(run, engine, run.output_folder("adapter"))


def hand_over(run: Run[Tuning], base: Path, lesson: Lesson, figures: dict[str, Any], started: float) -> None:
    """Merge, write cards, and announce the outputs; on rank 0. `started`: `time.monotonic()` when the recipe began."""
    import transformers

    spec = run.spec
    folder = run.folder / "outputs" / "model"
    if spec.method == "full":
        figures = {**figures, "trainable_parameters": _count_parameters(folder)}
        parameters = figures["trainable_parameters"]
    else:
        sample = lesson.sample[:MERGE_SAMPLE_TOKENS]
        merge = merge_adapter(base, run.folder / "outputs" / "adapter", run.output_folder("model"), spec.precision, sample)
        figures = {**figures, "trainable_parameters": merge.trainable_parameters, "merge_difference": merge.difference}
        parameters = merge.parameters
        lesson.tokenizer.save_pretrained(folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    figures["seconds"] = round(time.monotonic() - started, 2)
    facts = {
        "parameters": parameters,
        "architecture": config.model_type,
        "vocabulary_size": config.vocab_size,
        "tokenizer_size": len(lesson.tokenizer),
        "context_length": getattr(config, "max_position_embeddings", None),
        "transformers_version": transformers.__version__,
    }
    outputs = {"model": (spec.name, "tuned" if spec.method == "full" else "merged")}
    if spec.makes("adapter"):
        outputs["adapter"] = f"{spec.name}-adapter", "adapter"
    for output, (name, role) in outputs.items():
        _write_card(run, run.folder / "outputs" / output, lesson, facts, figures)
        run.output(output, "model", name=name, role=role, method=spec.method, **facts, **figures)
    run.figures(**figures)


def _count_parameters(folder: Path) -> int:
    """Return the number of weights in the safetensors of a folder, by their headers."""
    import math

    from safetensors import safe_open

    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as weights:
            total += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return total


def _write_card(run: Run[Tuning], folder: Path, lesson: Lesson, facts: dict[str, Any], figures: dict[str, Any]) -> None:
    spec, model, dataset = run.spec, run.input("model"), run.input("dataset")
    training = spec.model_dump(
        include={
            "sequence_length", "packing", "micro_batch_size", "steps", "precision", "seed",
        }
    )  # fmt: skip
    adapter = {f"lora {name}": value for name, value in spec.lora.model_dump().items()} if spec.makes("adapter") else {}
    write_model_card(
        folder,
        spec.name,
        lesson.summary,
        {
            "Model": {"base": model.name or model.path.name, "base version": model.version, "base id": model.id, **facts},
            "Data": {"dataset": dataset.name or dataset.path.name, "version": dataset.version, "id": dataset.id},
            "Training": {
                "method": spec.method, **lesson.settings, **adapter, **spec.optimizer.model_dump(), **training,
                "rounds": spec.rounds(run.world_size),
                "zero_stage": spec.zero_stage(run.world_size), "ranks": run.world_size,
            },
            "Results": figures,
            **describe_origin(run),
        },
    )  # fmt: skip
