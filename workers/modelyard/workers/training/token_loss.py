"""What a model thinks of the tokens that are learned: their loss, or the log-probability of each."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from modelyard.workers.training.completions import Example
from modelyard.workers.training.conversation_batch import ConversationBatch


def sum_losses(model: Any, batch: ConversationBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the summed cross-entropy in nats, and how many tokens were the most likely ones.

    A sum, since what it is divided by is known only for the whole step.
    """
    logits = _predict(model, batch)
    loss = cross_entropy(logits.float(), batch.targets, reduction="sum")
    return loss, (logits.detach().argmax(dim=-1) == batch.targets).sum()


def score_answers(
    model: Any, batch: ConversationBatch, examples: Sequence[Example], temperature: float = 1.0
) -> tuple[torch.Tensor, ...]:
    """Return for each example of the batch the log-probabilities of its learned tokens, in nats: (predictions,) each."""
    logits = _predict(model, batch).float() / temperature
    scores = -cross_entropy(logits, batch.targets, reduction="none")
    return scores.split([example.predictions for example in examples])


def _predict(model: Any, batch: ConversationBatch) -> torch.Tensor:
    """Return the logits of the predictions that count, in the order of the rows: (predictions, vocabulary).

    The head works only where predictions count: with a large vocabulary it is a good part of a small model's work.
    """
    logits = model(**batch.inputs, logits_to_keep=batch.columns).logits  # (rows, columns, vocabulary)
    # A single row counts at each of its columns.
    return logits[0] if logits.shape[0] == 1 else logits[batch.places]
