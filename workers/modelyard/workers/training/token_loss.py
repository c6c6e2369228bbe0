"""The loss of the tokens that are learned, summed: what it is divided by is known only for the whole step."""

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from modelyard.workers.training.conversation_batch import ConversationBatch


def sum_losses(model: Any, batch: ConversationBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the summed cross-entropy in nats, and how many tokens were the most likely ones.

    The head works only where predictions count: with a large vocabulary it is a good part of a small model's work.
    """
    logits = model(**batch.inputs, logits_to_keep=batch.columns).logits  # (rows, columns, vocabulary)
    # A single row counts at each of its columns.
    picked = logits[0] if logits.shape[0] == 1 else logits[batch.places]  # (predictions, vocabulary)
    loss = cross_entropy(picked.float(), batch.targets, reduction="sum")
    return loss, (picked.detach().argmax(dim=-1) == batch.targets).sum()
