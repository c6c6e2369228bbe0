"""Measure a model on held-out sequences, and prove that packed documents do not see each other. Importing this imports torch."""

import math
from typing import Any

import torch

from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.workers.perplexity import to_perplexity
from modelyard.workers.recipe import BadData, NotFinite, Run
from modelyard.workers.training.batches import to_device
from modelyard.workers.training.checkpoints import Progress
from modelyard.workers.training.cross_entropy import IGNORED
from modelyard.workers.training.distributed import sum_over_ranks
from modelyard.workers.training.documents import Layout
from modelyard.workers.training.packed_rows import count_targets, pack, take_part
from modelyard.workers.training.places import WHOLE, Place, place_of
from modelyard.workers.training.token_store import TokenStore, spread_numbers
from modelyard.workers.training.trained_model import Batch

VALIDATION_SEQUENCES = 128
"""Held-out sequences per validation, evenly spread and always the same: 16,384 tokens at the default length."""


def validate(run: Run[PretrainSpec], engine: Any, store: TokenStore, progress: Progress) -> float:
    """Measure the mean loss per token on the held-out sequences, shared out over the ranks, and record it."""
    run.phase("evaluate")
    engine.eval()
    total, count = _sum_losses(run, engine, store)
    engine.train()
    loss_sum, tokens = sum_over_ranks(total, count)
    loss = loss_sum / tokens
    if not math.isfinite(loss):
        raise NotFinite(f"the validation loss is {loss} at step {progress.step}")
    progress.last_validation_loss = loss
    run.metrics(progress.step, validation_loss=loss, validation_perplexity=to_perplexity(loss))
    run.phase("step")
    return loss


@torch.no_grad()
def _sum_losses(run: Run[PretrainSpec], engine: Any, store: TokenStore) -> tuple[float, float]:
    """This rank's part: the sum of the losses, and over how many tokens."""
    numbers = spread_numbers(len(store), VALIDATION_SEQUENCES)
    size, total, count = run.spec.micro_batch_size, 0.0, 0.0
    place = place_of(run)
    for start in range(0, len(numbers), size * place.groups):
        mine = numbers[start + place.group * size : start + (place.group + 1) * size]
        # Under ZeRO 3 a forward pass is a collective: a rank with nothing left joins in, and counts nothing.
        batch = pack(store, mine or numbers[:1], are_apart=run.spec.documents == "apart")
        # Ranks that share sequences count each an even part of their tokens; their losses are weighed for that.
        tokens = count_targets(batch.targets) / place.parts if mine else 0.0
        total += float(engine(to_device(take_part(batch, place), engine.device))) * tokens
        count += tokens
    return total, count


@torch.no_grad()
def check_documents_apart(engine: Any, sequence_length: int, place: Place = WHOLE) -> None:
    """Pack two documents, change the first, and see that the second does not notice. Raises `BadData` if it does."""
    engine.eval()
    half = sequence_length // (2 * place.parts) * place.parts
    batches = [take_part(_two_documents(half, first), place) for first in (5, 9)]
    losses = [float(engine(to_device(batch, engine.device))) for batch in batches]
    if place.parts > 1:  # the second document is the later ranks' part
        losses = sum_over_ranks(*losses)
    engine.train()
    if abs(losses[0] - losses[1]) > 1e-5 * abs(losses[0]):
        raise BadData(
            f"documents: the architecture `{engine.module.model.config.model_type}` lets packed documents see each other "
            f"(a loss of {losses[0]:.6f} became {losses[1]:.6f}); set documents to `joined`, or take another architecture"
        )


def _two_documents(half: int, first: int) -> Batch:
    tokens = torch.full((1, 2 * half), first)
    tokens[0, half:] = torch.arange(half) % 7 + 3
    positions = torch.arange(half).repeat(2)[None]
    targets = tokens.roll(-1, 1)
    targets[0, :half] = targets[0, -1] = IGNORED
    boundaries = torch.tensor([0, half, 2 * half], dtype=torch.int32)
    return Batch(tokens, positions, targets, Layout([half, half], boundaries))
