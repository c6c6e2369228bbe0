"""Batches of packed sequences: which token each position predicts, and where documents lie. Importing this imports torch."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from modelyard.workers.training.cross_entropy import IGNORED
from modelyard.workers.training.documents import Layout
from modelyard.workers.training.places import Place
from modelyard.workers.training.token_store import Tokens, TokenStore
from modelyard.workers.training.trained_model import Batch


def pack(store: TokenStore, numbers: Iterable[int], *, are_apart: bool) -> Batch:
    """Return the sequences of these numbers as a batch in the machine's memory."""
    rows = [_row(*store.sequence(number), are_apart=are_apart) for number in numbers]
    tokens, positions, targets = (torch.from_numpy(np.stack(part)) for part in list(zip(*rows, strict=True))[:3])
    if not are_apart:
        return Batch(tokens, None, targets, None)
    lengths = np.concatenate([lengths for *_, lengths in rows])
    return Batch(tokens, positions, targets, Layout(lengths.tolist(), _boundaries(lengths, tokens.numel())))


def take_part(batch: Batch, place: Place) -> Batch:
    """Return this rank's part of each sequence; the layout stays that of the whole sequences."""
    if place.parts == 1:
        return batch
    rows, length = batch.tokens.shape
    size = length // place.parts
    mine = slice(place.part * size, (place.part + 1) * size)
    positions = batch.positions if batch.positions is not None else torch.arange(length).expand(rows, -1)
    tokens, positions, targets = (each[:, mine].clone() for each in (batch.tokens, positions, batch.targets))
    share = place.parts * count_targets(targets) / max(1, count_targets(batch.targets))
    if share == 0.0:
        targets[0, 0] = 0  # a mean over nothing is not a number; this one weighs nothing
    return replace(batch, tokens=tokens, positions=positions, targets=targets, share=share)


def _row(tokens: Tokens, ends: Tokens, *, are_apart: bool) -> tuple[Tokens, Tokens, Tokens, Tokens]:
    """Tokens, positions and targets (sequence,) of one sequence, and the lengths of the pieces of documents in it."""
    length = len(tokens) - 1
    targets = tokens[1:].copy()
    if not are_apart:
        return tokens[:-1], tokens[:0], targets, ends[:0]
    # What a document begins with cannot be known from the one before it.
    targets[ends - 1] = IGNORED
    starts = np.concatenate(([0], ends[ends < length]))
    lengths = np.diff(np.concatenate((starts, [length])))
    return tokens[:-1], np.arange(length) - np.repeat(starts, lengths), targets, lengths


def _boundaries(lengths: Tokens, total: int) -> torch.Tensor:
    """Where pieces begin, filled up with the end to a size that batches share: kernels compiled for it serve them all."""
    size = 64
    while size < len(lengths) + 1:
        size *= 2
    bounds = np.full(size, total, dtype=np.int32)
    bounds[0] = 0
    bounds[1 : len(lengths) + 1] = np.cumsum(lengths)
    return torch.from_numpy(bounds)


def count_targets(targets: torch.Tensor) -> int:
    """How many positions count."""
    return int((targets != IGNORED).sum())
