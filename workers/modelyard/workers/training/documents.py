"""Attention that ends where a document ends, for several documents packed into one sequence.

Three ways, by what is at hand: on GPUs one kernel call over documents of any lengths; on CPUs one call per document, which
skips what lies between them; and for models with attention of a kind of their own a mask, which transformers makes from
positions that restart. Importing this imports torch and transformers.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from modelyard.domain.specs.architectures import PLAIN_MODEL_TYPES

ATTENTION = "documents"
"""Name of this attention among those transformers knows."""
SHARED_ATTENTION = "shared_documents"
"""That of the same for ranks that share sequences; it is made when they do."""
SHORTEST_SPLIT_ROW = 256
"""Tokens per row from which calls by document beat a mask on CPU: 4 times its time at 32 tokens, 0.9 at 128, 0.3 at 1024."""


@dataclass(frozen=True)
class Layout:
    """Where the documents of a batch lie, its rows laid end to end."""

    lengths: list[int]
    """Tokens of each piece of a document."""
    boundaries: Tensor
    """Where pieces begin, and the end: (pieces + 1), padded with the end to a length that batches share."""


def choose_attention(model: Any, device: str, precision: str, sequence_length: int, *, compiles: bool) -> str:
    """Return the attention a model trains with: `documents` where it serves, else one of transformers' with a mask."""
    masked = "sdpa" if model._supports_sdpa else "eager"
    if not has_plain_attention(model.config, sequence_length):
        return masked
    if device == "cuda":
        return ATTENTION if precision != "fp32" else masked
    return ATTENTION if sequence_length >= SHORTEST_SPLIT_ROW and not compiles else masked


def choose_joined_attention(model: Any, sequence_length: int) -> str | None:
    """Return the attention for documents that see each other, None for what the model has.

    transformers looks at the positions of each batch for documents packed into it, to find that there are none: a twentieth of
    a very small step, and on a GPU a moment in which the loop waits for it.
    """
    drops = getattr(model.config, "attention_dropout", 0.0)
    return ATTENTION if has_plain_attention(model.config, sequence_length) and model._supports_sdpa and not drops else None


def has_plain_attention(config: Any, sequence_length: int) -> bool:
    """Whether all layers attend to everything before them in sequences of this length."""
    window = getattr(config, "sliding_window", None)
    return config.model_type in PLAIN_MODEL_TYPES and (window is None or window >= sequence_length)


def attend(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, *, document_lengths: list[int] | None = None, document_boundaries: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attend causally, within each document if lengths are given.

    Tensors: (batch, heads, sequence, size); returns (batch, sequence, heads, size).
    """
    if document_lengths is None or document_boundaries is None:
        return _attend(query, key, value, scaling).transpose(1, 2), None
    batch, _heads, length, _size = query.shape
    query, key, value = _flatten(query), _flatten(key), _flatten(value)  # (batch · sequence, heads, size)
    if query.device.type == "cuda":
        attended = _attend_in_one_call(query, key, value, document_boundaries, length, scaling)
    else:
        attended = _attend_one_by_one(query, key, value, document_lengths, scaling)
    return attended.view(batch, length, *attended.shape[1:]), None


def _flatten(part: Tensor) -> Tensor:
    return part.transpose(1, 2).reshape(-1, part.shape[1], part.shape[3])


def _attend_one_by_one(query: Tensor, key: Tensor, value: Tensor, lengths: list[int], scaling: float | None) -> Tensor:
    # (heads, tokens, size) → one piece after the other; splitting and joining cost one copy each way, slices one per piece.
    parts = (tensor.transpose(0, 1).unsqueeze(0).split(lengths, 2) for tensor in (query, key, value))
    attended = [_attend(q, k, v, scaling) for q, k, v in zip(*parts, strict=True)]
    return torch.cat(attended, 2)[0].transpose(0, 1)


def _attend(query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
    is_grouped = query.shape[1] != key.shape[1]
    return functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=is_grouped)


def _attend_in_one_call(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, scaling: float | None) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    is_grouped = query.shape[1] != key.shape[1]
    attended = varlen_attn(
        query, key, value, bounds, bounds, longest, longest, scale=scaling, window_size=(-1, 0), enable_gqa=is_grouped
    )  # fmt: skip
    assert isinstance(attended, Tensor)
    return attended


AttentionInterface.register(ATTENTION, attend)
