"""TRL's supervised trainer, taught to report, save and stop the way every recipe does."""

import math
import shutil
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer

from modelyard.domain.specs.finetuning import FinetuneSpec
from modelyard.workers.recipe import NotFinite, Run
from modelyard.workers.training.checkpoints import Progress, write_progress
from modelyard.workers.training.distributed import barrier, sum_over_ranks
from modelyard.workers.training.gradient_norm import keep_gradient_norm

METRICS = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "gradient_norm",
    "mean_token_accuracy": "mean_token_accuracy",
    "eval_loss": "validation_loss",
    "eval_mean_token_accuracy": "validation_mean_token_accuracy",
}
"""Name in the trainer's log -> name of our metric."""


class RunCallback(TrainerCallback):
    """Carries the trainer's log to the run's events, and the run's wish to stop to the trainer."""

    def __init__(self, run: Run[FinetuneSpec]) -> None:
        self.run = run
        self.is_stopping = False
        self.trainer: Any = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The engine exists from here on."""
        keep_gradient_norm(self.trainer.deepspeed)
        self.run.phase("step")

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        logs: dict[str, float] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        """Record metrics. Raises `NotFinite` on every rank, since all log the same averaged loss."""
        values = {METRICS[name]: float(value) for name, value in (logs or {}).items() if name in METRICS}
        # ZeRO silently skips a step whose gradients overflow: the loss stays finite, and nothing is learned any more.
        for name in ("loss", "validation_loss", "gradient_norm"):
            if not math.isfinite(values.get(name, 0.0)):
                rate = self.run.spec.optimizer.learning_rate
                raise NotFinite(f"the {name} is {values[name]} at step {state.global_step}; lower learning_rate {rate}")
        if values:
            self.run.metrics(state.global_step, **values)
        if "loss" in values:
            message = f"step {state.global_step} of {state.max_steps}, loss {values['loss']:.3f}"
            self.run.progress(state.global_step / state.max_steps, message)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> TrainerControl:
        """Save and leave when rank 0 was asked to; all ranks decide the same. Validate after the last step."""
        if self.run.is_silent():
            self.run.progress(state.global_step / state.max_steps, f"step {state.global_step} of {state.max_steps}")
        asked = self.run.rank == 0 and self.run.stop_requested() is not None
        (stops,) = sum_over_ranks(float(asked))
        pauses = self.run.pauses_at(state.global_step)
        if state.global_step >= state.max_steps or pauses:
            control.should_evaluate = True
        # After the last step, finishing is as quick as leaving.
        if (stops or pauses) and state.global_step < state.max_steps:
            self.is_stopping = True
            control.should_save = True
            control.should_training_stop = True
        return control


class SupervisedTrainer(SFTTrainer):
    """Writes its checkpoints through the run, so that they appear complete or not at all."""

    def __init__(self, run: Run[FinetuneSpec], **arguments: Any) -> None:
        self.run = run
        self.run_callback = RunCallback(run)
        super().__init__(callbacks=[self.run_callback], **arguments)
        self.run_callback.trainer = self
        self.remove_callback(PrinterCallback)

    def validation_losses(self) -> list[float]:
        """Return the validation losses so far, those before a resume included."""
        return [entry["eval_loss"] for entry in self.state.log_history if "eval_loss" in entry]

    def evaluate(self, *arguments: Any, **named: Any) -> dict[str, float]:
        """Validate; a long one is not a step that hangs."""
        self.run.phase("evaluate")
        figures: dict[str, float] = super().evaluate(*arguments, **named)
        self.run.phase("step")
        return figures

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.run.phase("save")
        step, losses = self.state.global_step, self.validation_losses()
        with self.run.checkpoint(step, **({"validation_loss": losses[-1]} if losses else {})) as folder:
            barrier()
            # Past TRL's own override, which writes a card for a hub into every checkpoint.
            Trainer._save_checkpoint(self, model, trial)
            barrier()
            if self.run.local_rank == 0:
                self._move_into(folder)
            if self.run.rank == 0:
                write_progress(folder, Progress(step=step, world_size=self.run.world_size))
            barrier()
        self.run.phase("step")

    def _move_into(self, folder: Path) -> None:
        written = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        # PEFT's card names the folder of the base model on this machine.
        (written / "README.md").unlink(missing_ok=True)
        for path in list(written.iterdir()):
            shutil.move(path, folder / path.name)
        written.rmdir()
