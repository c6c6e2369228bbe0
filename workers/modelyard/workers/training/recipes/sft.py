"""Fine-tune a chat model with LoRA on the answers of conversations: TRL and PEFT under DeepSpeed."""

import gc
import time
from pathlib import Path
from typing import Any

from modelyard.domain.specs.finetuning import FinetuneSpec
from modelyard.workers.dataset import PreparedDataset, open_dataset
from modelyard.workers.libraries import configure_libraries
from modelyard.workers.model_card import write_model_card
from modelyard.workers.recipe import BadData, Run, Stopped, run_recipe
from modelyard.workers.training.checkpoints import read_progress
from modelyard.workers.training.completions import CompletionSet, tokenize_completions
from modelyard.workers.training.distributed import join_ranks, leave_ranks
from modelyard.workers.training.lora import merge_adapter, save_adapter, take_over_adapter
from modelyard.workers.training.trainer_arguments import derive_arguments

VALIDATION_CONVERSATIONS = 32
"""Held-out conversations per validation, the first ones and always the same."""
MERGE_SAMPLE_TOKENS = 64


def main(run: Run[FinetuneSpec]) -> None:
    """Train, validate, merge, save. Raises `NotFinite`, `Stopped` (after saving), `BadData` and `MergeFailed`."""
    started = time.monotonic()
    spec = run.spec
    # What can be wrong with the inputs shows here, before seconds of imports.
    model_folder = run.input("model").path
    dataset = open_dataset(run.input("dataset").path, "chat")
    progress = read_progress(run)
    configure_libraries(run.device)
    join_ranks(run)

    run.progress(0.0, "tokenizing the conversations")
    tokenizer = _load_tokenizer(model_folder)
    train = _tokenize(run, dataset, "train", tokenizer)
    heldout = _tokenize(run, dataset, "heldout", tokenizer)

    run.progress(progress.step / spec.steps, f"{len(train.examples)} conversations, {train.truncated} truncated")
    adapter, merged = run.output_folder("adapter"), run.output_folder("model")
    began = time.monotonic()
    if run.resume_from is not None and progress.step >= spec.steps:
        # The trainer would do one step more than asked.
        losses = take_over_adapter(run, run.resume_from, adapter)
    else:
        losses = _train(run, model_folder, tokenizer, train, heldout, adapter)
    figures = {
        "steps": spec.steps,
        "conversations": len(train.examples),
        "truncated": train.truncated,
        "dropped": train.dropped,
        "validation_loss_first": round(losses[0], 4),
        "validation_loss": round(losses[-1], 4),
        "training_seconds": round(time.monotonic() - began, 2),
    }
    if run.rank == 0:
        run.progress(1.0, "merging the adapter")
        _hand_over(run, model_folder, tokenizer, heldout, figures, adapter, merged, started)
    leave_ranks()


def _train(
    run: Run[FinetuneSpec], model_folder: Path, tokenizer: Any, train: CompletionSet, heldout: CompletionSet, adapter: Path
) -> list[float]:
    """Train and write the adapter; return the validation losses. Raises `Stopped` after saving, and `NotFinite`."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    run.phase("compile")
    trainer = _build_trainer(run, model_folder, tokenizer, train, heldout)
    trainer.train(resume_from_checkpoint=str(run.resume_from) if run.resume_from else None)
    if trainer.run_callback.is_stopping:
        leave_ranks()
        raise Stopped
    run.phase("save")
    save_adapter(run, trainer, adapter)
    losses: list[float] = trainer.validation_losses()
    # The merge needs the memory.
    del trainer
    gc.collect()
    # Under ZeRO 3 loading a model is something all ranks do together, for as long as this configuration is set.
    unset_hf_deepspeed_config()
    return losses


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def _tokenize(run: Run[FinetuneSpec], dataset: PreparedDataset, split: str, tokenizer: Any) -> CompletionSet:
    sequence_length = run.spec.sequence_length
    found = tokenize_completions(run.keep_telling(dataset.rows(split)), tokenizer, sequence_length)
    if not found.examples:
        raise BadData(
            f"no conversation of the {split} split is left: {found.dropped} have prompts of {sequence_length} tokens "
            "or more; raise sequence_length"
        )
    return found


def _build_trainer(
    run: Run[FinetuneSpec], model_folder: Path, tokenizer: Any, train: CompletionSet, heldout: CompletionSet
) -> Any:
    import datasets
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM

    from modelyard.workers.training.supervised_trainer import SupervisedTrainer

    # The arguments come first: under ZeRO 3 they make from_pretrained load each rank's part only.
    arguments = derive_arguments(run)
    lora = run.spec.lora
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=_dtype(run.spec))
    try:
        return SupervisedTrainer(
            run,
            model=model,
            args=arguments,
            processing_class=tokenizer,
            train_dataset=datasets.Dataset.from_list(train.examples),
            eval_dataset=datasets.Dataset.from_list(heldout.examples[:VALIDATION_CONVERSATIONS]),
            peft_config=LoraConfig(
                r=lora.rank,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
                target_modules=lora.target_modules,
                task_type="CAUSAL_LM",
            ),
        )
    except ValueError as error:
        if "target modules" not in str(error).lower():
            raise
        raise BadData(f"lora.target_modules {lora.target_modules}: the model has no such modules ({error})") from error


def _dtype(spec: FinetuneSpec) -> Any:
    import torch

    return torch.bfloat16 if spec.precision == "bf16" else torch.float32


def _hand_over(
    run: Run[FinetuneSpec], base: Path, tokenizer: Any, heldout: CompletionSet, figures: dict[str, Any],
    adapter: Path, merged: Path, started: float,
) -> None:  # fmt: skip
    """Merge on rank 0, write cards, and announce both outputs."""
    import transformers

    spec = run.spec
    sample = heldout.examples[0]["input_ids"][:MERGE_SAMPLE_TOKENS]
    merge = merge_adapter(base, adapter, merged, spec.precision, sample)
    tokenizer.save_pretrained(merged)
    config = transformers.AutoConfig.from_pretrained(merged)
    figures = {
        **figures,
        "trainable_parameters": merge.trainable_parameters,
        "merge_difference": merge.difference,
        "seconds": round(time.monotonic() - started, 2),
    }
    facts = {
        "parameters": merge.parameters,
        "architecture": config.model_type,
        "vocabulary_size": config.vocab_size,
        "context_length": getattr(config, "max_position_embeddings", None),
        "transformers_version": transformers.__version__,
    }
    for folder in (adapter, merged):
        _write_card(run, folder, facts, figures)
    run.output("model", "model", name=spec.name, role="merged", **facts, **figures)
    run.output("adapter", "model", name=f"{spec.name}-adapter", role="adapter", **facts, **figures)
    run.figures(**figures)


def _write_card(run: Run[FinetuneSpec], folder: Path, facts: dict[str, Any], figures: dict[str, Any]) -> None:
    spec, model, dataset = run.spec, run.input("model"), run.input("dataset")
    training = spec.model_dump(
        include={"sequence_length", "micro_batch_size", "gradient_accumulation_steps", "precision", "seed"}
    )
    write_model_card(
        folder,
        spec.name,
        "Fine-tuned with LoRA on the last answer of each conversation; everything before it was context only.",
        {
            "Model": {"base": model.name or model.path.name, "base version": model.version, "base id": model.id, **facts},
            "Data": {"dataset": dataset.name or dataset.path.name, "version": dataset.version, "id": dataset.id},
            "Training": {
                **{f"lora {name}": value for name, value in spec.lora.model_dump().items()},
                **spec.optimizer.model_dump(), **training,
                "zero_stage": spec.deepspeed.zero_stage, "ranks": run.world_size,
            },
            "Results": figures,
        },
    )  # fmt: skip


if __name__ == "__main__":
    run_recipe(main)
