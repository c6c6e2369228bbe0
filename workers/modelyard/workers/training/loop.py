"""One optimizer step of pre-training: batches in, a loss out, and nothing else that costs time. Importing this imports torch."""

import time
from dataclasses import dataclass
from typing import Any

import torch

from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.workers.recipe import Run
from modelyard.workers.training.batches import Batches, Order
from modelyard.workers.training.distributed import sum_over_ranks
from modelyard.workers.training.places import place_of
from modelyard.workers.training.step_preparation import prepare_step
from modelyard.workers.training.token_store import TokenStore
from modelyard.workers.training.waiting import WaitClock


@dataclass(frozen=True)
class Step:
    """What one optimizer step came to, the same on every rank."""

    loss: float
    """Mean over all ranks and rounds."""
    own_loss: float
    """Mean over the rounds of this rank."""
    learning_rate: float
    gradient_norm: float
    stops: bool
    """Whether the runner asked to stop."""
    seconds: float
    waited_seconds: float
    """Of these, until the batches of this rank were there."""


def open_batches(run: Run[PretrainSpec], engine: Any, store: TokenStore) -> Batches:
    """Return the batches of this rank."""
    spec = run.spec
    rounds, size = engine.gradient_accumulation_steps(), engine.train_micro_batch_size_per_gpu()
    place = place_of(run)
    order = Order(place.group, place.groups, rounds, size, spec.seed)
    return Batches(store, order, engine.device, place, are_apart=spec.documents == "apart")


def do_step(run: Run[PretrainSpec], engine: Any, batches: Batches, number: int, data_step: int) -> Step:
    """Do the optimizer step of this number, counted from 0, on the data of another or the same one."""
    began = time.monotonic()
    rate = prepare_step(run, engine, number)
    total = torch.zeros((), device=engine.device)
    rounds = 0
    clock = WaitClock()
    for batch in clock.watch(batches.of_step(data_step)):
        loss = engine(batch)
        engine.backward(loss)
        engine.step()
        total += loss.detach()
        rounds += 1
    # The one moment the loop waits for the device.
    norm = float(engine.get_global_grad_norm() or 0.0)
    asked = run.rank == 0 and run.stop_requested() is not None
    own = float(total) / rounds
    loss_sum, stops = sum_over_ranks(own, float(asked))
    return Step(loss_sum / run.world_size, own, rate, norm, bool(stops), time.monotonic() - began, clock.seconds)
