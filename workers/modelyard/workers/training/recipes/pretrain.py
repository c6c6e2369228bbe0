"""Pre-train a language model: tokenizer, packed tokens, a decoder, a plain loop over DeepSpeed."""

import math
import time
from pathlib import Path
from typing import Any

from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.workers.dataset import open_dataset
from modelyard.workers.model_card import describe_origin, write_model_card
from modelyard.workers.perplexity import to_perplexity
from modelyard.workers.recipe import Run, run_recipe
from modelyard.workers.training.architecture import build_model, save_model
from modelyard.workers.training.beginning import begin
from modelyard.workers.training.checkpoints import Progress, load_state, read_progress
from modelyard.workers.training.corpus import TOKENIZER_FILE, Corpus, prepare_corpus
from modelyard.workers.training.distributed import leave_ranks
from modelyard.workers.training.flops import Work
from modelyard.workers.training.peak_memory import measure_peak

MOST_METRIC_POINTS = 2000


def main(run: Run[PretrainSpec]) -> None:
    """Train, validate, save. Raises `NotFinite`, `Stopped` (after saving) and `BadData`."""
    started = time.monotonic()
    spec = run.spec
    # What can be wrong with the inputs shows here, before seconds of imports.
    dataset = open_dataset(run.input("dataset").path, "text")
    base = run.input("model").path if spec.model else None
    progress = read_progress(run)
    begin(run, is_deterministic=spec.deterministic)

    corpus = prepare_corpus(run, dataset)
    run.phase("compile")
    model = build_model(spec, corpus.tokenizer, base)
    parameters = model.num_parameters()
    engine = _start_engine(run, model, progress)
    run.progress(progress.step / spec.steps, f"{parameters / 1e6:.1f} M parameters, {corpus.train.token_count} tokens")

    tokens, seconds = _train(run, engine, corpus, progress)

    run.phase("save")
    folder = run.output_folder("model")
    facts = _facts(run, engine.module.model.config, corpus, parameters)
    save_model(engine, engine.module.release(), corpus.tokenizer, folder, run.rank, spec.precision)
    figures = _figures(spec, progress, tokens, seconds, time.monotonic() - started)
    if run.rank == 0:
        _write_card(run, folder, facts, figures)
    run.output("model", "model", name=spec.name, role="pretrained", **facts, **figures)
    run.figures(parameters=parameters, peak_memory_bytes=measure_peak(run), **figures)
    leave_ranks()


def _start_engine(run: Run[PretrainSpec], model: Any, progress: Progress) -> Any:
    """Return the engine as it is before the first step to do."""
    from modelyard.workers.training.compilation import compile_layers
    from modelyard.workers.training.engine import compiles, start_engine
    from modelyard.workers.training.places import place_of
    from modelyard.workers.training.validation import check_documents_apart

    engine = start_engine(run, model)
    if run.spec.documents == "apart":
        check_documents_apart(engine, run.spec.sequence_length, place_of(run))
    if compiles(run):
        compile_layers(engine)
    load_state(run, engine, progress)
    return engine


def _train(run: Run[PretrainSpec], engine: Any, corpus: Corpus, progress: Progress) -> tuple[int, float]:
    """Do the steps left; return (tokens trained on, seconds it took), validations and checkpoints not counted."""
    from modelyard.workers.training.loop import do_step, open_batches
    from modelyard.workers.training.recovery import Recovery
    from modelyard.workers.training.saving import Saver
    from modelyard.workers.training.step_end import end_step, find_due
    from modelyard.workers.training.validation import validate
    from modelyard.workers.training.watching import Watch

    spec, first, seconds = run.spec, progress.step, 0.0
    work = _work_of_step(run, corpus)
    watch = Watch(run, engine.module.model, engine.module)
    if progress.first_validation_loss is None:
        progress.first_validation_loss = validate(run, engine, corpus.heldout, progress)
    files = {TOKENIZER_FILE: corpus.tokenizer.backend_tokenizer.to_str()}
    run.phase("step")
    with open_batches(run, engine, corpus.train) as batches, Saver(run, engine, files=files) as saver:
        recovery = Recovery(run, engine, saver, batches.rows, progress)
        while progress.step < spec.steps:
            step = do_step(run, engine, batches, progress.step, progress.data_step)
            progress.step += 1
            seconds += step.seconds
            due, is_own_finite = find_due(run, progress.step, stops=step.stops), math.isfinite(step.own_loss)
            is_checked = due.validates or due.saves
            if recovery.goes_back(progress, step.loss, step.gradient_norm, is_own_finite=is_own_finite, is_due=is_checked):
                watch.forget()
                continue
            _report(run, progress.step, step, work, watch)
            end_step(progress, due, step.loss, lambda: validate(run, engine, corpus.heldout, progress), saver, recovery)
    return (progress.step - first) * work.tokens, seconds


def _work_of_step(run: Run[PretrainSpec], corpus: Corpus) -> Work:
    spec = run.spec
    tokens = spec.sequences_per_step(run.world_size) * spec.sequence_length
    # A token of a long document has more to look back on, so the mean length counts too little rather than too much.
    mean_length = corpus.train.token_count / max(1, corpus.train.document_count)
    span = spec.sequence_length if spec.documents == "joined" else min(spec.sequence_length, mean_length)
    return Work(tokens, tokens, span)


def _report(run: Run[PretrainSpec], number: int, step: Any, work: Work, watch: Any) -> None:
    """Record what a step came to."""
    spec = run.spec
    measured = watch.measure(number, step.seconds, step.waited_seconds, work)  # together with the other ranks
    is_point = number % math.ceil(spec.steps / MOST_METRIC_POINTS) == 0 or number == spec.steps or run.pauses_at(number)
    if is_point:
        run.metrics(
            number, loss=step.loss, learning_rate=step.learning_rate, gradient_norm=step.gradient_norm,
            tokens_per_second=work.tokens / step.seconds, **measured,
        )  # fmt: skip
    if is_point or run.is_silent():
        run.progress(number / spec.steps, f"step {number} of {spec.steps}, loss {step.loss:.3f}")


def _facts(run: Run[PretrainSpec], config: Any, corpus: Corpus, parameters: int) -> dict[str, Any]:
    import transformers

    return {
        "parameters": parameters,
        "architecture": config.model_type,
        "vocabulary_size": config.get_text_config().vocab_size,
        "tokenizer_size": len(corpus.tokenizer),
        "context_length": getattr(config.get_text_config(), "max_position_embeddings", run.spec.sequence_length),
        "documents": corpus.train.document_count,
        "documents_cut": corpus.train.count_cut(),
        "transformers_version": transformers.__version__,
    }


def _figures(spec: PretrainSpec, progress: Progress, tokens: int, seconds: float, total: float) -> dict[str, Any]:
    assert progress.first_validation_loss is not None
    assert progress.last_validation_loss is not None
    return {
        "validation_perplexity_first": round(to_perplexity(progress.first_validation_loss), 3),
        "validation_perplexity": round(to_perplexity(progress.last_validation_loss), 3),
        "steps": spec.steps,
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1) if seconds else None,
        "seconds": round(total, 2),
    }


def _write_card(run: Run[PretrainSpec], folder: Path, facts: dict[str, Any], figures: dict[str, Any]) -> None:
    spec, dataset = run.spec, run.input("dataset")
    named = spec.model_dump(include={"preset", "config", "model", "tokenizer"}, exclude_none=True)
    training = spec.model_dump(include={"micro_batch_size", "sequence_length", "documents", "precision", "seed"})
    shape = spec.shape()
    write_model_card(
        folder,
        spec.name,
        ("Trained further on one text dataset." if spec.model else "Pre-trained from scratch on one text dataset.")
        + " Perplexity is per token of its tokenizer, so it compares runs of one tokenizer only.",
        {
            "Model": {**facts, **named, **(shape.model_dump() if shape else {})},
            "Data": {"dataset": dataset.name or dataset.path.name, "version": dataset.version, "id": dataset.id},
            "Training": {
                **training, "rounds": spec.rounds(run.world_size), **spec.optimizer.model_dump(),
                "zero_stage": spec.zero_stage(run.world_size), "ranks": run.world_size,
                "sequence_parallel_size": spec.deepspeed.sequence_parallel_size,
                "tensor_parallel_size": spec.deepspeed.tensor_parallel_size,
            },
            "Results": figures,
            **describe_origin(run),
        },
    )  # fmt: skip


if __name__ == "__main__":
    run_recipe(main)
