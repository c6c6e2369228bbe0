"""Attention over sequences laid end to end in one row, each of which sees itself only.

`transformers` keeps packed sequences apart by a mask of (tokens × tokens), which computes all that it then hides. Here the
cost is that of the sequences one by one: by torch's kernel for variable lengths where it runs (a GPU, 16 bits), else by a loop.
"""

import inspect
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from modelyard.workers.recipe import BadData

PACKED_ATTENTION = "modelyard_packed"
"""Value of `attn_implementation`."""
CAUSAL = (-1, 0)


def keep_sequences_apart(model: Any, sequence_length: int) -> None:
    """Prepare a loaded model for packed sequences. Raises `BadData` if its architecture would mix them.

    Where attention is more than causal, what transformers makes of the restarting positions stays in use: a mask.
    """
    has_positions = "position_ids" in inspect.signature(model.forward).parameters
    if model._is_stateful or not has_positions:
        raise BadData(
            f"packing: the architecture `{model.config.model_type}` carries what it read from one conversation into the next; "
            "set packing to false"
        )
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    is_plain = not getattr(config, "attn_logit_softcapping", None) and (window is None or window >= sequence_length)
    if is_plain and model._supports_sdpa and model._supports_attention_backend and model._can_set_attn_implementation():
        AttentionInterface.register(PACKED_ATTENTION, packed_attention)
        model.set_attn_implementation(PACKED_ATTENTION)


def packed_attention(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    attention_mask: torch.Tensor | None, dropout: float = 0.0, scaling: float | None = None,
    *, cu_seq_lens_q: torch.Tensor, max_length_q: int, **kwargs: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Attend within each sequence. Query, key, value: (1, heads, tokens, width); result: (1, tokens, heads, width)."""
    is_grouped = query.shape[1] != key.shape[1]
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and not dropout:
        from torch.nn.attention.varlen import varlen_attn

        rows = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]  # (tokens, heads, width)
        whole = varlen_attn(
            *rows, cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q,
            scale=scaling, window_size=CAUSAL, enable_gqa=is_grouped,
        )  # fmt: skip
        assert isinstance(whole, torch.Tensor)
        return whole[None], None
    lengths = cu_seq_lens_q.diff().tolist()
    parts = [
        scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=is_grouped)
        for q, k, v in zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None
