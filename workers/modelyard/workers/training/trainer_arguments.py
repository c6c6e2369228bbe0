"""Derive the arguments of TRL's supervised trainer from a spec."""

from typing import Any

from modelyard.domain.specs.finetuning import FinetuneSpec
from modelyard.workers.recipe import Run
from modelyard.workers.training.deepspeed_config import derive_config
from modelyard.workers.training.schedule import warmup_steps


def derive_arguments(run: Run[FinetuneSpec]) -> Any:
    """Return the `SFTConfig` of a run. It carries DeepSpeed's configuration, and must agree with it."""
    from trl import SFTConfig

    spec = run.spec
    # The trainer insists that its arguments and DeepSpeed's configuration agree, so they are read from there.
    config = derive_config(spec, run.device)
    adam = config["optimizer"]["params"]
    return SFTConfig(
        output_dir=str(run.folder / "trainer"),
        deepspeed=config,
        use_cpu=run.device == "cpu",
        bf16=config["bf16"]["enabled"],
        per_device_train_batch_size=config["train_micro_batch_size_per_gpu"],
        per_device_eval_batch_size=config["train_micro_batch_size_per_gpu"],
        gradient_accumulation_steps=config["gradient_accumulation_steps"],
        max_grad_norm=config["gradient_clipping"],
        learning_rate=adam["lr"],
        weight_decay=adam["weight_decay"],
        adam_beta1=adam["betas"][0],
        adam_beta2=adam["betas"][1],
        adam_epsilon=adam["eps"],
        lr_scheduler_type="cosine",
        warmup_steps=warmup_steps(spec.steps, spec.optimizer.warmup_ratio),
        max_steps=spec.steps,
        max_length=spec.sequence_length,
        # Ours are tokenized already, with labels on the answers: padding is told by position there, not by its id,
        # so a pad token that equals the end token cannot hide the end.
        dataset_kwargs={"skip_prepare_dataset": True},
        gradient_checkpointing=False,
        eval_strategy="steps",
        eval_steps=spec.evaluate_every,
        eval_on_start=run.resume_from is None,
        save_strategy="steps",
        save_steps=spec.save_every,
        logging_steps=1,
        # A loss that is not finite must be seen, not averaged away.
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        seed=spec.seed,
        data_seed=spec.seed,
        dataloader_pin_memory=run.device != "cpu",
    )
