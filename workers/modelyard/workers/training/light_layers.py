"""Norms and attention of a Llama in fewer operations, for CPUs in fp32; the same sums, to the last few bits.

Where a model is small most of a step is the start of operations, each with its backward pass: a norm is six of them, turning
queries and keys by their positions fourteen. What is kept for the backward pass is less too. GPUs have Liger's kernels or
compile. Importing this imports torch and transformers.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRMSNorm, eager_attention_forward


def lighten_layers(model: Any) -> None:
    """Let the norms and the attention of this model work by fewer operations, where it is made of Llama's."""
    for module in model.modules():
        if type(module) is LlamaRMSNorm:
            module.forward = MethodType(_normalize, module)
        elif type(module) is LlamaAttention:
            module.forward = MethodType(_attend, module)


def restore_layers(model: Any) -> None:
    """Undo `lighten_layers`."""
    for module in model.modules():
        if type(module) in (LlamaRMSNorm, LlamaAttention):
            module.__dict__.pop("forward", None)


def _normalize(norm: Any, hidden_states: Tensor) -> Tensor:
    if hidden_states.dtype is not torch.float32 or norm.weight.dtype is not torch.float32:
        ordinary: Tensor = LlamaRMSNorm.forward(norm, hidden_states)
        return ordinary
    normed: Tensor = _Norm.apply(hidden_states, norm.weight, norm.variance_epsilon)
    return normed


def _attend(
    attention: Any, hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor], attention_mask: Tensor | None = None,
    past_key_values: Any = None, **given: Any,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """`LlamaAttention.forward` for training: no cache, and positions by `_Turn`."""
    if past_key_values is not None:
        raise ValueError("past_key_values: layers in training keep no keys and values; call `restore_layers` to generate")
    shape = (*hidden_states.shape[:-1], -1, attention.head_dim)
    # (batch, heads, sequence, size)
    query, key, value = (
        each(hidden_states).view(shape).transpose(1, 2) for each in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    cosine, sine = (part.unsqueeze(1) for part in position_embeddings)
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation, eager_attention_forward)
    attended, weights = attend(
        attention, _Turn.apply(query, cosine, sine), _Turn.apply(key, cosine, sine), value, attention_mask,
        dropout=attention.attention_dropout if attention.training else 0.0, scaling=attention.scaling, **given,
    )  # fmt: skip
    return attention.o_proj(attended.reshape(*hidden_states.shape[:-1], -1)), weights


class _Norm(torch.autograd.Function):
    """Root mean square norm over the last dimension (Zhang & Sennrich 2019, arXiv:1910.07467)."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        squares = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True).square_()
        scale = squares.div_(hidden.shape[-1]).add_(epsilon).rsqrt_()  # (..., 1)
        ctx.save_for_backward(hidden, weight, scale)
        return (hidden * scale).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden, weight, scale = ctx.saved_tensors
        normed, slope = hidden * scale, gradient * weight
        along = torch.linalg.vecdot(slope, normed).unsqueeze(-1).div_(-hidden.shape[-1])
        slope.addcmul_(normed, along).mul_(scale)
        return slope, normed.mul_(gradient).flatten(0, -2).sum(0), None


class _Turn(torch.autograd.Function):
    """Rotary positions (Su et al. 2021, arXiv:2104.09864), halves of a head paired as in Llama's weights."""

    @staticmethod
    def forward(ctx: Any, heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        return _turn(heads, cosine, sine, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cosine, sine = ctx.saved_tensors
        return _turn(gradient, cosine, sine, -1), None, None


def _turn(heads: Tensor, cosine: Tensor, sine: Tensor, sign: int) -> Tensor:
    """Turn (batch, heads, sequence, size) by angles (batch or 1, 1, sequence, size); sign -1 turns back."""
    turned = heads * cosine
    half = heads.shape[-1] // 2
    turned[..., :half].addcmul_(heads[..., half:], sine[..., :half], value=-sign)
    turned[..., half:].addcmul_(heads[..., :half], sine[..., half:], value=sign)
    return turned
