"""Pre-train a language model from scratch: tokenizer, packed tokens, a Llama decoder, a plain loop over DeepSpeed."""

import math
import time
from typing import Any

from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.workers.dataset import open_dataset
from modelyard.workers.libraries import configure_libraries
from modelyard.workers.model_card import write_model_card
from modelyard.workers.recipe import NotFinite, Run, Stopped, run_recipe
from modelyard.workers.training.checkpoints import Progress, read_progress, write_progress
from modelyard.workers.training.corpus import TOKENIZER_FILE, Corpus, prepare_corpus
from modelyard.workers.training.deepspeed_config import derive_config
from modelyard.workers.training.distributed import barrier, join_ranks, leave_ranks, sum_over_ranks
from modelyard.workers.training.gradient_norm import keep_gradient_norm
from modelyard.workers.training.llama import build_model, save_model
from modelyard.workers.training.schedule import learning_rate_at
from modelyard.workers.training.token_store import TokenStore, numbers_at, spread_numbers

VALIDATION_SEQUENCES = 128
"""Held-out sequences per validation, evenly spread and always the same: 16,384 tokens at the default length."""
MOST_METRIC_POINTS = 2000
ENGINE_STATE = "state"
"""Folder of DeepSpeed's part inside a checkpoint."""


def main(run: Run[PretrainSpec]) -> None:
    """Train, validate, save. Raises `NotFinite`, `Stopped` (after saving) and `BadData`."""
    started = time.monotonic()
    spec = run.spec
    # What can be wrong with the inputs shows here, before seconds of imports.
    dataset = open_dataset(run.input("dataset").path, "text")
    progress = read_progress(run)
    configure_libraries(run.device)
    join_ranks(run)
    import deepspeed
    import transformers

    corpus = prepare_corpus(run, dataset)
    run.phase("compile")
    model = build_model(spec, corpus.tokenizer)
    parameters = model.num_parameters()
    engine, *_ = deepspeed.initialize(
        model=model, model_parameters=model.parameters(), config=derive_config(spec, run.device)
    )  # fmt: skip
    keep_gradient_norm(engine)
    if run.resume_from is not None:
        run.phase("load")
        engine.load_checkpoint(str(run.resume_from), tag=ENGINE_STATE)
    run.progress(progress.step / spec.steps, f"{parameters / 1e6:.1f} M parameters, {len(corpus.train.tokens)} tokens")
    if progress.first_validation_loss is None:
        progress.first_validation_loss = _validate(run, engine, corpus.heldout, progress)

    tokens, seconds = _train(run, engine, corpus, progress)

    run.phase("save")
    folder = run.output_folder("model")
    save_model(engine, corpus.tokenizer, folder, run.rank)
    figures = _figures(spec, progress, tokens, seconds, time.monotonic() - started)
    facts = {
        "parameters": parameters,
        "architecture": "llama",
        "vocabulary_size": len(corpus.tokenizer),
        "context_length": spec.sequence_length,
        "transformers_version": transformers.__version__,
    }
    if run.rank == 0:
        _write_card(run, folder, facts, figures)
    run.output("model", "model", name=spec.name, role="pretrained", **facts, **figures)
    run.figures(parameters=parameters, **figures)
    leave_ranks()


def _train(run: Run[PretrainSpec], engine: Any, corpus: Corpus, progress: Progress) -> tuple[int, float]:
    """Run the steps left; return (tokens trained on, seconds it took), validations and checkpoints not counted."""
    spec = run.spec
    tokens_per_step = engine.train_batch_size() * spec.sequence_length
    report_every = math.ceil(spec.steps / MOST_METRIC_POINTS)
    first_step, seconds = progress.step, 0.0
    run.phase("step")
    while progress.step < spec.steps:
        began = time.monotonic()
        rate, loss, norm = _step(run, engine, corpus.train, progress.step)
        stop = run.rank == 0 and run.stop_requested() is not None
        loss_sum, stops = sum_over_ranks(loss, float(stop))
        loss = loss_sum / run.world_size
        elapsed = time.monotonic() - began
        seconds += elapsed
        progress.step += 1
        pauses = run.pauses_at(progress.step)
        # ZeRO silently skips a step whose gradients overflow: the loss stays finite, and nothing is learned any more.
        if not math.isfinite(loss) or not (math.isfinite(norm) or engine.fp16_enabled()):
            raise NotFinite(
                f"the loss is {loss} and the gradient norm {norm} at step {progress.step}; "
                f"lower learning_rate {spec.optimizer.learning_rate}"
            )
        if progress.step % report_every == 0 or progress.step == spec.steps or pauses:
            run.metrics(
                progress.step, loss=loss, learning_rate=rate, gradient_norm=norm, tokens_per_second=tokens_per_step / elapsed
            )
            run.progress(progress.step / spec.steps, f"step {progress.step} of {spec.steps}, loss {loss:.3f}")
        elif run.is_silent():
            run.progress(progress.step / spec.steps, f"step {progress.step} of {spec.steps}, loss {loss:.3f}")
        is_last = progress.step == spec.steps
        if progress.step % spec.evaluate_every == 0 or is_last or pauses:
            _validate(run, engine, corpus.heldout, progress)
        if progress.step % spec.save_every == 0 or is_last or stops or pauses:
            _save_checkpoint(run, engine, corpus, progress, loss)
        if (stops or pauses) and not is_last:
            leave_ranks()
            raise Stopped
    return (progress.step - first_step) * tokens_per_step, seconds


def _step(run: Run[PretrainSpec], engine: Any, store: TokenStore, step: int) -> tuple[float, float, float]:
    """Do one optimizer step; return its learning rate, this rank's mean loss and the norm of all gradients."""
    import torch

    spec = run.spec
    # Everything random in a step follows from seed, step and rank, so that a resumed run repeats the unbroken one.
    torch.manual_seed(hash((spec.seed, step, run.rank)))
    rate = learning_rate_at(
        step, spec.steps, engine.optimizer_params()["lr"], spec.optimizer.warmup_ratio
    )  # fmt: skip
    for group in engine.optimizer.param_groups:
        group["lr"] = rate
    rounds, size = engine.gradient_accumulation_steps(), engine.train_micro_batch_size_per_gpu()
    total = 0.0
    for round_ in range(rounds):
        position = ((step * rounds + round_) * run.world_size + run.rank) * size
        numbers = numbers_at(position, size, len(store), spec.seed)
        batch = torch.from_numpy(store.sequences(numbers)).to(engine.device)  # (batch, sequence)
        # The model shifts the labels itself. Sequences may span documents, parted by an end token, as in GPT-2.
        loss = engine(input_ids=batch, labels=batch).loss
        engine.backward(loss)
        engine.step()
        total += float(loss.detach())
    return rate, total / rounds, float(engine.get_global_grad_norm() or 0.0)


def _validate(run: Run[PretrainSpec], engine: Any, store: TokenStore, progress: Progress) -> float:
    """Measure the mean loss per token on the held-out sequences, shared out over the ranks, and record it."""
    import torch

    run.phase("evaluate")
    numbers = spread_numbers(len(store), VALIDATION_SEQUENCES)
    size = engine.train_micro_batch_size_per_gpu()
    engine.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(numbers), size * run.world_size):
            mine = numbers[start + run.rank * size : start + (run.rank + 1) * size]
            # Under ZeRO 3 a forward pass is a collective: a rank with nothing left joins in, and counts nothing.
            batch = torch.from_numpy(store.sequences(mine or numbers[:1])).to(engine.device)  # (batch, sequence)
            total += float(engine(input_ids=batch, labels=batch).loss) * len(mine)
            count += len(mine)
    engine.train()
    loss_sum, sequences = sum_over_ranks(total, count)
    loss = loss_sum / sequences
    if not math.isfinite(loss):
        raise NotFinite(f"the validation loss is {loss} at step {progress.step}")
    progress.last_validation_loss = loss
    run.metrics(progress.step, validation_loss=loss, validation_perplexity=math.exp(loss))
    run.phase("step")
    return loss


def _save_checkpoint(run: Run[PretrainSpec], engine: Any, corpus: Corpus, progress: Progress, loss: float) -> None:
    run.phase("save")
    with run.checkpoint(progress.step, loss=loss) as folder:
        # The first rank of a machine empties the folder when it enters; nobody may write before that.
        barrier()
        engine.save_checkpoint(str(folder), tag=ENGINE_STATE)
        if run.rank == 0:
            (folder / TOKENIZER_FILE).write_text(corpus.tokenizer.backend_tokenizer.to_str(), encoding="utf-8")
            write_progress(folder, progress)
        barrier()
    run.phase("step")


def _figures(spec: PretrainSpec, progress: Progress, tokens: int, seconds: float, total: float) -> dict[str, Any]:
    assert progress.first_validation_loss is not None
    assert progress.last_validation_loss is not None
    return {
        "validation_perplexity_first": round(math.exp(progress.first_validation_loss), 3),
        "validation_perplexity": round(math.exp(progress.last_validation_loss), 3),
        "steps": spec.steps,
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1) if seconds else None,
        "seconds": round(total, 2),
    }


def _write_card(run: Run[PretrainSpec], folder: Any, facts: dict[str, Any], figures: dict[str, Any]) -> None:
    spec, dataset = run.spec, run.input("dataset")
    training = spec.model_dump(include={"micro_batch_size", "gradient_accumulation_steps", "precision", "seed"})
    write_model_card(
        folder,
        spec.name,
        "Pre-trained from scratch on one text dataset with a byte-level BPE tokenizer of its own. "
        "Perplexity is per token of that tokenizer, so it compares runs of one tokenizer only.",
        {
            "Model": {**facts, **spec.architecture.model_dump()},
            "Data": {"dataset": dataset.name or dataset.path.name, "version": dataset.version, "id": dataset.id},
            "Training": {
                **training, **spec.optimizer.model_dump(), "zero_stage": spec.deepspeed.zero_stage, "ranks": run.world_size
            },
            "Results": figures,
        },
    )  # fmt: skip


if __name__ == "__main__":
    run_recipe(main)
