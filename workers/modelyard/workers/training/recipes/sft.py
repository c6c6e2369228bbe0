"""Fine-tune a chat model on conversations: an adapter or all weights, a plain loop over DeepSpeed."""

import gc
import math
import time
from pathlib import Path
from typing import Any

from modelyard.domain.specs.finetuning import FinetuneSpec
from modelyard.workers.dataset import open_dataset
from modelyard.workers.libraries import configure_libraries
from modelyard.workers.recipe import NotFinite, Run, Stopped, run_recipe
from modelyard.workers.training.checkpoints import Progress, read_progress, write_progress
from modelyard.workers.training.conversations import Conversations, read_conversations
from modelyard.workers.training.deepspeed_config import derive_config
from modelyard.workers.training.distributed import barrier, device_of_rank, join_ranks, leave_ranks, sum_over_ranks
from modelyard.workers.training.gradient_norm import keep_gradient_norm
from modelyard.workers.training.schedule import learning_rate_at
from modelyard.workers.training.tuned_model import load_tuned_model
from modelyard.workers.training.tuned_outputs import hand_over, save_weights

ENGINE_STATE = "state"
"""Folder of DeepSpeed's part inside a checkpoint."""


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
    conversations = read_conversations(run, dataset, model_folder)
    train = conversations.train
    message = f"{len(train.examples)} conversations in {len(conversations.course.groups)} groups, {train.truncated} truncated"
    run.progress(progress.step / spec.steps, message)
    run.phase("compile")
    engine = _start_engine(run, model_folder)
    if progress.first_validation_loss is None:
        progress.first_validation_loss = _validate(run, engine, conversations, progress)

    seconds = _train(run, engine, conversations, progress)

    run.phase("save")
    figures = {
        "steps": spec.steps,
        "conversations": len(train.examples),
        "truncated": train.truncated,
        "dropped": train.dropped,
        "validation_loss_first": round(progress.first_validation_loss, 4),
        "validation_loss": round(progress.last_validation_loss or 0.0, 4),
        "training_seconds": round(seconds, 2),
    }
    save_weights(run, engine, conversations.tokenizer)
    # The merge needs the memory.
    del engine
    gc.collect()
    if run.rank == 0:
        run.progress(1.0, "writing the model")
        hand_over(run, model_folder, conversations, figures, started)
    leave_ranks()


def _start_engine(run: Run[FinetuneSpec], model_folder: Path) -> Any:
    """Return DeepSpeed's engine over the model, as it was saved where the run resumes."""
    import deepspeed
    from transformers.integrations import HfDeepSpeedConfig

    config = derive_config(run.spec, run.device)
    # Under ZeRO 3 each rank loads a part only, for as long as this object lives.
    sharded = HfDeepSpeedConfig(config) if run.spec.deepspeed.zero_stage == 3 else None
    model = load_tuned_model(run, model_folder)
    del sharded
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    engine, *_ = deepspeed.initialize(model=model, model_parameters=learning, config=config)
    keep_gradient_norm(engine)
    if run.resume_from is not None:
        run.phase("load")
        engine.load_checkpoint(str(run.resume_from), tag=ENGINE_STATE, load_module_strict=run.spec.method == "full")
    return engine


def _train(run: Run[FinetuneSpec], engine: Any, conversations: Conversations, progress: Progress) -> float:
    """Run the steps left; return the seconds they took, validations and checkpoints not counted."""
    spec = run.spec
    seconds = 0.0
    run.phase("step")
    while progress.step < spec.steps:
        began = time.monotonic()
        rate, loss_sum, correct_sum, norm = _step(run, engine, conversations, progress.step)
        stop = run.rank == 0 and run.stop_requested() is not None
        loss, correct, stops = sum_over_ranks(loss_sum, correct_sum, float(stop))
        predictions, tokens = conversations.predictions(progress.step), conversations.tokens(progress.step)
        elapsed = time.monotonic() - began
        seconds += elapsed
        progress.step += 1
        loss /= predictions
        # ZeRO silently skips a step whose gradients overflow: the loss stays finite, and nothing is learned any more.
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise NotFinite(
                f"the loss is {loss} and the gradient norm {norm} at step {progress.step}; "
                f"lower learning_rate {spec.optimizer.learning_rate}"
            )
        run.metrics(
            progress.step, loss=loss, learning_rate=rate, gradient_norm=norm,
            mean_token_accuracy=correct / predictions, tokens_per_second=tokens / elapsed,
        )  # fmt: skip
        run.progress(progress.step / spec.steps, f"step {progress.step} of {spec.steps}, loss {loss:.3f}")
        is_last, pauses = progress.step == spec.steps, run.pauses_at(progress.step)
        if progress.step % spec.evaluate_every == 0 or is_last or pauses:
            _validate(run, engine, conversations, progress)
        if progress.step % spec.save_every == 0 or is_last or stops or pauses:
            _save_checkpoint(run, engine, progress, loss)
        if (stops or pauses) and not is_last:
            leave_ranks()
            raise Stopped
    return seconds


def _step(run: Run[FinetuneSpec], engine: Any, conversations: Conversations, step: int) -> tuple[float, float, float, float]:
    """Do one optimizer step; return its rate, this rank's summed loss and right guesses, and the norm of all gradients."""
    import torch

    from modelyard.workers.training.token_loss import sum_losses

    spec = run.spec
    # Everything random in a step follows from seed, step and rank, so that a resumed run repeats the unbroken one.
    torch.manual_seed(hash((spec.seed, step, run.rank)))
    rate = learning_rate_at(step, spec.steps, engine.optimizer_params()["lr"], spec.optimizer.warmup_ratio, floor=0.0)
    for group in engine.optimizer.param_groups:
        group["lr"] = rate
    rounds = engine.gradient_accumulation_steps()
    # Every token of the step weighs the same, wherever it lies: DeepSpeed takes the mean over rounds and ranks.
    weight = rounds * run.world_size / conversations.predictions(step)
    loss_sum = correct_sum = 0.0
    for round_ in range(rounds):
        loss, correct = sum_losses(engine, _lay_out(spec, conversations.batch(step, round_, run.rank)))
        engine.backward(loss * weight)
        engine.step()
        loss_sum += float(loss.detach())
        correct_sum += float(correct)
    return rate, loss_sum, correct_sum, float(engine.get_global_grad_norm() or 0.0)


def _lay_out(spec: FinetuneSpec, examples: Any) -> Any:
    from modelyard.workers.training.conversation_batch import lay_below_each_other, lay_end_to_end

    return (lay_end_to_end if spec.packing else lay_below_each_other)(examples, device_of_rank())


def _validate(run: Run[FinetuneSpec], engine: Any, conversations: Conversations, progress: Progress) -> float:
    """Measure the mean loss per learned token of the held-out conversations, shared out over the ranks, and record it."""
    import torch

    from modelyard.workers.training.token_loss import sum_losses

    run.phase("evaluate")
    engine.eval()
    totals = [0.0, 0.0, 0.0]
    with torch.no_grad():
        for start in range(0, len(conversations.validation), run.world_size):
            mine = conversations.validation[start + run.rank : start + run.rank + 1]
            # Under ZeRO 3 a forward pass is a collective: a rank with nothing left joins in, and counts nothing.
            group = (mine or conversations.validation)[0]
            batch = _lay_out(run.spec, [conversations.heldout.examples[number] for number in group])
            loss, correct = sum_losses(engine, batch)
            if mine:
                totals = [old + new for old, new in zip(totals, (float(loss), float(correct), len(batch.targets)), strict=True)]
    engine.train()
    loss_sum, correct_sum, predictions = sum_over_ranks(*totals)
    mean = loss_sum / predictions
    if not math.isfinite(mean):
        raise NotFinite(f"the validation loss is {mean} at step {progress.step}")
    progress.last_validation_loss = mean
    run.metrics(progress.step, validation_loss=mean, validation_mean_token_accuracy=correct_sum / predictions)
    run.phase("step")
    return mean


def _save_checkpoint(run: Run[FinetuneSpec], engine: Any, progress: Progress, loss: float) -> None:
    run.phase("save")
    with run.checkpoint(progress.step, loss=loss) as folder:
        # The first rank of a machine empties the folder when it enters; nobody may write before that.
        barrier()
        # The base does not change: a checkpoint of an adapter is as small as the adapter.
        engine.save_checkpoint(str(folder), tag=ENGINE_STATE, exclude_frozen_parameters=run.spec.method != "full")
        if run.rank == 0:
            write_progress(folder, progress)
        barrier()
    run.phase("step")


if __name__ == "__main__":
    run_recipe(main)
