"""A causal language model as the loop trains it: a packed batch in, its mean loss out. Importing this imports torch."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from modelyard.workers.training.cross_entropy import IGNORED, mean_cross_entropy
from modelyard.workers.training.documents import ATTENTION, SHARED_ATTENTION, Layout
from modelyard.workers.training.light_layers import restore_layers

OWN_LOGITS = frozenset({"granite"})
"""Model types that do more to their logits than one matrix product, though their layers are plain."""


@dataclass(frozen=True)
class Batch:
    """Packed sequences, and the token each position should predict."""

    tokens: Tensor
    """(batch, sequence)"""
    positions: Tensor | None
    """(batch, sequence): how far into its document a token is; None where documents are joined."""
    targets: Tensor
    """(batch, sequence): the next token, or `IGNORED` where that begins another document."""
    layout: Layout | None
    share: float = 1.0
    """What its mean loss counts, so that the mean over all ranks is that over all tokens: 1, unless ranks share sequences."""


class TrainedModel(torch.nn.Module):
    """Wraps a model of transformers. The weights' names gain the prefix `model.`."""

    def __init__(self, model: Any, *, has_plain_head: bool) -> None:
        super().__init__()
        self.model = model
        self.has_plain_head = has_plain_head
        if has_plain_head:
            # The loss is computed inside the head's own call: there ZeRO 3 has its weights at hand.
            model.lm_head.forward = self._loss_of_head

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss per token that counts."""
        inputs: dict[str, Any] = {"input_ids": batch.tokens, "position_ids": batch.positions, "use_cache": False}
        if batch.layout is not None and self.model.config._attn_implementation in {ATTENTION, SHARED_ATTENTION}:
            inputs |= {"document_lengths": batch.layout.lengths, "document_boundaries": batch.layout.boundaries}
        loss = self._mean_loss(inputs, batch.targets.flatten())
        return loss if batch.share == 1.0 else loss * batch.share

    def _mean_loss(self, inputs: dict[str, Any], targets: Tensor) -> Tensor:
        if self.has_plain_head:
            hidden = self.model.model(**inputs).last_hidden_state
            loss: Tensor = self.model.lm_head(hidden.flatten(0, 1), targets)
            return loss
        logits = self.model(**inputs).logits.flatten(0, 1)
        return functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED)

    def _loss_of_head(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return mean_cross_entropy(hidden, self.model.lm_head.weight, targets)

    def release(self) -> Any:
        """Return the model as transformers knows it."""
        if self.has_plain_head:
            del self.model.lm_head.forward
        restore_layers(self.model)
        return self.model
