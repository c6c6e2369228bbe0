"""What holds for one optimizer step only: its random numbers and its learning rate. Importing this imports torch."""

from typing import Any

import torch

from modelyard.workers.recipe import Run
from modelyard.workers.training.schedule import learning_rate_at


def prepare_step(run: Run[Any], engine: Any, step: int) -> float:
    """Seed a step, counted from 0, and set its learning rate in every group of the optimizer; return the rate."""
    spec = run.spec
    # Everything random in a step follows from seed, step and rank, so that a resumed run repeats the unbroken one.
    _seed(engine.device, hash((spec.seed, step, run.rank)))
    chosen = spec.optimizer
    peak = engine.optimizer_params()["lr"] if engine.optimizer_params() else chosen.learning_rate
    rate = learning_rate_at(step, spec.steps, peak, chosen.warmup_ratio, chosen.floor, chosen.scheduler, chosen.decay_ratio)
    for group in engine.optimizer.param_groups:
        group["lr"] = rate
    return rate


def _seed(device: torch.device, seed: int) -> None:
    """Seed what draws numbers in a step.

    `torch.manual_seed` seeds every kind of accelerator there might be: on a CPU it notes the stack three times, each time,
    and keeps the notes.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
