"""The loop of every tuning recipe: steps, metrics, validations and checkpoints, until all is done or the run is told to leave."""

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from modelyard.workers.recipe import NotFinite, Run
from modelyard.workers.training.checkpoints import Progress, load_state
from modelyard.workers.training.deepspeed_config import blame_override, derive_config
from modelyard.workers.training.distributed import sum_over_ranks
from modelyard.workers.training.flops import Work
from modelyard.workers.training.gradient_norm import keep_gradient_norm
from modelyard.workers.training.tuned_model import Tuning, load_tuned_model
from modelyard.workers.training.tuned_outputs import save_weights


@dataclass(frozen=True)
class Outcome:
    """What an optimizer step came to, over all ranks."""

    loss: float
    tokens: int
    """Tokens that went through the model, padding not counted."""
    metrics: dict[str, float] = field(default_factory=dict)
    work: Work | None = None
    """What the model's operations are counted by; None where a step does more than one pass over its tokens."""
    waited_seconds: float | None = None
    """How long this rank waited for its data."""


class Method(Protocol):
    """What a way of tuning does of its own. Steps are those of the data, counted from 0."""

    def learn(self, step: int) -> Sequence[float]:
        """Do the rounds of an optimizer step on this rank; return what is to be summed over the ranks."""

    def describe(self, step: int, sums: Sequence[float]) -> Outcome:
        """Say what a step came to, by the sums over all ranks."""

    def rows(self, step: int, rank: int | None) -> list[int]:
        """Return the numbers of the rows that a rank reads in a step; None: all ranks."""

    def validate(self) -> dict[str, float]:
        """Return the metrics of the held-out rows over all ranks, `validation_loss` among them, in evaluation mode."""


def tune(run: Run[Tuning], model_folder: Path, make_method: Callable[[Any], Method], tokenizer: Any, progress: Progress) -> float:
    """Train, and write what was learned; return the seconds the steps took. `make_method` is given the engine.

    Raises `NotFinite`, and `Stopped` after saving.
    """
    run.phase("compile")
    engine = _start_engine(run, model_folder, progress)
    seconds = _run_steps(run, engine, make_method(engine), progress)
    run.phase("save")
    save_weights(run, engine, tokenizer)
    # The merge needs the memory.
    del engine
    gc.collect()
    return seconds


def _start_engine(run: Run[Tuning], model_folder: Path, progress: Progress) -> Any:
    """Return DeepSpeed's engine over the model, as it was saved where the run resumes."""
    import deepspeed
    from transformers.integrations import HfDeepSpeedConfig

    from modelyard.workers.training.compilation import compile_layers
    from modelyard.workers.training.optimizers import build_optimizer

    config = derive_config(run.spec, run.device, run.world_size)
    # Under ZeRO 3 each rank loads a part only, for as long as this object lives.
    sharded = HfDeepSpeedConfig(config) if config["zero_optimization"]["stage"] == 3 else None
    model = load_tuned_model(run, model_folder)
    del sharded
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = None
    if "optimizer" not in run.spec.deepspeed.override:  # what the user overrides is DeepSpeed's to build
        optimizer = build_optimizer(run.spec.optimizer, model)
        del config["optimizer"]
    with blame_override(run.spec):
        engine, *_ = deepspeed.initialize(model=model, model_parameters=learning, optimizer=optimizer, config=config)
    keep_gradient_norm(engine)
    if run.world_size == 1 and engine.zero_optimization_stage() == 0:
        # There is nobody to add gradients up with, and copying them there and back costs a tenth of a small step.
        engine.enable_backward_allreduce = False
    if run.spec.compile == "on":
        compile_layers(engine, is_dynamic=True)
    load_state(run, engine, progress, is_strict=run.spec.method == "full")
    return engine


def _run_steps(run: Run[Tuning], engine: Any, method: Method, progress: Progress) -> float:
    """Run the steps left; return the seconds they took, validations and checkpoints not counted."""
    from modelyard.workers.training.recovery import Recovery
    from modelyard.workers.training.saving import Saver
    from modelyard.workers.training.step_end import end_step, find_due
    from modelyard.workers.training.step_preparation import prepare_step
    from modelyard.workers.training.watching import Watch

    spec = run.spec
    seconds = 0.0
    watch = Watch(run, engine.module, engine.module)
    if progress.first_validation_loss is None:
        progress.first_validation_loss = _validate(run, engine, method, progress)
    run.phase("step")
    with Saver(run, engine, exclude_frozen=spec.method != "full") as saver:  # what does not learn is in the base
        recovery = Recovery(run, engine, saver, method.rows, progress)
        while progress.step < spec.steps:
            began = time.monotonic()
            rate, data_step = prepare_step(run, engine, progress.step), progress.data_step
            sums = method.learn(data_step)
            norm = float(engine.get_global_grad_norm() or 0.0)
            stop = run.rank == 0 and run.stop_requested() is not None
            *totals, stops = sum_over_ranks(*sums, float(stop))
            elapsed = time.monotonic() - began
            outcome = method.describe(data_step, totals)
            seconds += elapsed
            progress.step += 1
            measures = watch.measure(progress.step, elapsed, outcome.waited_seconds, outcome.work)
            due, is_own_finite = find_due(run, progress.step, stops=bool(stops)), all(map(math.isfinite, sums))
            is_checked = due.validates or due.saves
            if recovery.goes_back(progress, outcome.loss, norm, is_own_finite=is_own_finite, is_due=is_checked):
                continue
            _report(run, progress.step, outcome, rate, norm, elapsed, measures)
            end_step(progress, due, outcome.loss, lambda: _validate(run, engine, method, progress), saver, recovery)
    return seconds


def _report(
    run: Run[Tuning], step: int, outcome: Outcome, rate: float, norm: float, seconds: float, measures: dict[str, float]
) -> None:
    """Record what a step came to."""
    run.metrics(
        step, loss=outcome.loss, learning_rate=rate, gradient_norm=norm, **outcome.metrics,
        tokens_per_second=outcome.tokens / seconds, **measures,
    )  # fmt: skip
    run.progress(step / run.spec.steps, f"step {step} of {run.spec.steps}, loss {outcome.loss:.3f}")


def _validate(run: Run[Tuning], engine: Any, method: Method, progress: Progress) -> float:
    """Measure the held-out rows and record it. Raises `NotFinite`."""
    import torch

    run.phase("evaluate")
    engine.eval()
    with torch.no_grad():
        metrics = method.validate()
    engine.train()
    mean = metrics["validation_loss"]
    if not math.isfinite(mean):
        raise NotFinite(f"the validation loss is {mean} at step {progress.step}")
    progress.last_validation_loss, progress.last_validation = mean, metrics
    progress.first_validation = progress.first_validation or metrics
    run.metrics(progress.step, **metrics)
    run.phase("step")
    return mean
