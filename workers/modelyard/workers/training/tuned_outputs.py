"""What a fine-tuning run hands over: the model, its adapter where it has one, and cards that say where they come from."""

import time
from pathlib import Path
from typing import Any

from modelyard.domain.specs.finetuning import FinetuneSpec
from modelyard.workers.model_card import write_model_card
from modelyard.workers.recipe import Run
from modelyard.workers.training.architecture import save_model
from modelyard.workers.training.conversations import Conversations
from modelyard.workers.training.lora import merge_adapter, save_adapter

MERGE_SAMPLE_TOKENS = 64
LEARNED = {
    "last_answer": "the last answer of each conversation",
    "answers": "every answer of the assistant",
    "all": "every token",
}


def save_weights(run: Run[FinetuneSpec], engine: Any, tokenizer: Any) -> None:
    """Write what was learned: an adapter, or the whole model. All ranks call this: under ZeRO 3 each holds a part only."""
    if run.spec.method == "full":
        save_model(engine, engine.module, tokenizer, run.output_folder("model"), run.rank)
    else:
        save_adapter(run, engine, run.output_folder("adapter"))


def hand_over(run: Run[FinetuneSpec], base: Path, conversations: Conversations, figures: dict[str, Any], started: float) -> None:
    """Merge, write cards, and announce the outputs; on rank 0. `started`: `time.monotonic()` when the recipe began."""
    import transformers

    spec = run.spec
    folder = run.folder / "outputs" / "model"
    if spec.method == "full":
        figures = {**figures, "trainable_parameters": _count_parameters(folder)}
        parameters = figures["trainable_parameters"]
    else:
        sample = conversations.heldout.examples[0].tokens[:MERGE_SAMPLE_TOKENS].tolist()
        merge = merge_adapter(base, run.folder / "outputs" / "adapter", run.output_folder("model"), spec.precision, sample)
        figures = {**figures, "trainable_parameters": merge.trainable_parameters, "merge_difference": merge.difference}
        parameters = merge.parameters
        conversations.tokenizer.save_pretrained(folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    figures["seconds"] = round(time.monotonic() - started, 2)
    facts = {
        "parameters": parameters,
        "architecture": config.model_type,
        "vocabulary_size": config.vocab_size,
        "context_length": getattr(config, "max_position_embeddings", None),
        "transformers_version": transformers.__version__,
    }
    _announce(run, "model", spec.name, "tuned" if spec.method == "full" else "merged", facts, figures)
    if spec.makes("adapter"):
        _announce(run, "adapter", f"{spec.name}-adapter", "adapter", facts, figures)
    run.figures(**figures)


def _announce(run: Run[FinetuneSpec], output: str, name: str, role: str, facts: dict[str, Any], figures: dict[str, Any]) -> None:
    _write_card(run, run.folder / "outputs" / output, facts, figures)
    run.output(output, "model", name=name, role=role, method=run.spec.method, **facts, **figures)


def _count_parameters(folder: Path) -> int:
    """Return the number of weights in the safetensors of a folder, by their headers."""
    import math

    from safetensors import safe_open

    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as weights:
            total += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return total


def _write_card(run: Run[FinetuneSpec], folder: Path, facts: dict[str, Any], figures: dict[str, Any]) -> None:
    spec, model, dataset = run.spec, run.input("model"), run.input("dataset")
    training = spec.model_dump(
        include={
            "sequence_length", "packing", "micro_batch_size", "gradient_accumulation_steps", "steps", "precision", "seed",
        }
    )  # fmt: skip
    adapter = {f"lora {name}": value for name, value in spec.lora.model_dump().items()} if spec.makes("adapter") else {}
    write_model_card(
        folder,
        spec.name,
        f"Fine-tuned ({spec.method}) on {LEARNED[spec.loss_on]}; everything else was context only.",
        {
            "Model": {"base": model.name or model.path.name, "base version": model.version, "base id": model.id, **facts},
            "Data": {"dataset": dataset.name or dataset.path.name, "version": dataset.version, "id": dataset.id},
            "Training": {
                "method": spec.method, **adapter, **spec.optimizer.model_dump(), **training,
                "zero_stage": spec.deepspeed.zero_stage, "ranks": run.world_size,
            },
            "Results": figures,
        },
    )  # fmt: skip
