"""Conversations as tensors: laid end to end without padding, or one below the other with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from modelyard.workers.training.completions import Example

ANY_TOKEN = 0
"""What fills up a padded row does not matter: nobody attends to it, and it is not learned."""


@dataclass(frozen=True)
class ConversationBatch:
    """What the model is given, and which of its predictions count. Both layouts are read the same way."""

    inputs: dict[str, Any]
    """`input_ids` and the rest of the model's arguments."""
    columns: torch.Tensor
    """Positions at which some row's prediction counts, ascending; no logits are computed at others."""
    places: tuple[torch.Tensor, torch.Tensor]
    """Rows, and indices into `columns`, of the predictions that count."""
    targets: torch.Tensor
    """The token to be predicted at each of the places."""

    @property
    def tokens(self) -> int:
        """Tokens that go through the model, padding included."""
        return int(self.inputs["input_ids"].numel())


def lay_out(examples: Sequence[Example], packing: bool, device: str) -> ConversationBatch:
    """Make a batch the way a spec wants it."""
    return (lay_end_to_end if packing else lay_below_each_other)(examples, device)


def lay_end_to_end(examples: Sequence[Example], device: str) -> ConversationBatch:
    """Make one row of all conversations. Positions restart with each, and `documents` keeps them apart."""
    lengths = [len(example.tokens) for example in examples]
    learned = np.concatenate([example.learned for example in examples])
    borders = [0, *accumulate(lengths)]
    learned[borders[:-1]] = False  # what comes before is another conversation
    tokens = torch.from_numpy(np.concatenate([example.tokens for example in examples])[None].astype(np.int64))
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    inputs = {
        "input_ids": tokens.to(device),
        "position_ids": positions.to(device),
        # What `documents.attend` asks for.
        "document_lengths": lengths,
        "document_boundaries": torch.tensor(borders, dtype=torch.int32, device=device),
    }
    return _with_targets(inputs, tokens, torch.from_numpy(learned[None]), device)


def lay_below_each_other(examples: Sequence[Example], device: str) -> ConversationBatch:
    """Make one row of each conversation, padded to the longest."""
    shape = len(examples), max(len(example.tokens) for example in examples)
    tokens = torch.full(shape, ANY_TOKEN, dtype=torch.int64)
    learned, mask = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.int64)
    for row, example in enumerate(examples):
        length = len(example.tokens)
        tokens[row, :length] = torch.from_numpy(example.tokens)
        learned[row, :length] = torch.from_numpy(example.learned)
        mask[row, :length] = 1
    learned[:, 0] = False
    return _with_targets({"input_ids": tokens.to(device), "attention_mask": mask.to(device)}, tokens, learned, device)


def _with_targets(inputs: dict[str, Any], tokens: torch.Tensor, learned: torch.Tensor, device: str) -> ConversationBatch:
    rows, positions = learned.nonzero(as_tuple=True)
    # The prediction of a token stands one place before it.
    columns, indices = torch.unique(positions - 1, return_inverse=True)
    return ConversationBatch(
        inputs=inputs,
        columns=columns.to(device),
        places=(rows.to(device), indices.to(device)),
        targets=tokens[rows, positions].to(device),
    )
