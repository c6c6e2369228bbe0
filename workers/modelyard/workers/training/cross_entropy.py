"""The loss of a language model without its logits: they are made, used and dropped a few rows at a time.

Gradients are computed together with the loss, so nothing of the size of the vocabulary is kept for the backward pass
(the idea of Liger's fused linear cross-entropy, Hsu et al. 2024, arXiv:2410.10989).
Importing this imports torch.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

IGNORED = -100
"""Target of a position that does not count."""
LOGITS_PER_PORTION = {"cpu": 2**24, "cuda": 2**26}
"""Logits that exist at a time: 64 MB on a CPU, 256 MB on a GPU, where smaller portions would not fill it."""
LEAST_ROWS = 64


def mean_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the mean loss of `hidden` (rows, size) through `weight` (vocabulary, size), over rows whose target counts.

    It must be differentiated once, and by `hidden` and `weight` both; where gradients are off it is just the loss.
    """
    if hidden.shape[0] * weight.shape[0] <= LOGITS_PER_PORTION[hidden.device.type]:
        if hidden.device.type == "cpu" and hidden.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu"):
            mean: Tensor = _MeanCrossEntropy.apply(hidden, weight, targets)
            return mean
        return functional.cross_entropy(functional.linear(hidden, weight).float(), targets, ignore_index=IGNORED)
    total: Tensor = _SummedCrossEntropy.apply(hidden, weight, targets)
    return total / (targets != IGNORED).sum().clamp(min=1)


class _MeanCrossEntropy(torch.autograd.Function):
    """All rows at once, in the memory of their logits: torch's own way has them three times and passes over them more often."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        scores = functional.linear(hidden, weight)  # (rows, vocabulary)
        torch.log_softmax(scores, dim=-1, out=scores)
        counts = targets != IGNORED
        share = counts / counts.sum().clamp(min=1)
        wanted = targets.clamp(min=0)[:, None]
        ctx.save_for_backward(hidden, weight, scores, wanted, share)
        return -torch.dot(scores.gather(1, wanted)[:, 0], share)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden, weight, scores, wanted, share = ctx.saved_tensors
        slope = scores.exp_().scatter_add_(1, wanted, torch.full_like(scores[:, :1], -1.0))
        share = (share * gradient)[:, None]  # here, where a row is short
        return (slope @ weight).mul_(share), slope.t() @ (hidden * share), None


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        rows = max(LEAST_ROWS, LOGITS_PER_PORTION[hidden.device.type] // weight.shape[0])
        needs_gradients = any(ctx.needs_input_grad)
        # In half precision the sum over all rows would lose what a single row adds.
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if needs_gradients else None
        hidden_gradient = torch.empty_like(hidden) if needs_gradients else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, hidden.shape[0], rows):
            part, wanted = hidden[start : start + rows], targets[start : start + rows]
            logits = functional.linear(part, weight).float()  # (rows, vocabulary)
            total += functional.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum")
            if hidden_gradient is None or weight_gradient is None:
                continue
            slope = _slope(logits, wanted).to(part.dtype)
            torch.mm(slope, weight.to(part.dtype), out=hidden_gradient[start : start + rows])
            _add_product(weight_gradient, slope.t(), part)
        if hidden_gradient is not None and weight_gradient is not None:
            ctx.save_for_backward(hidden_gradient, weight_gradient.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        return (
            hidden_gradient.mul_(gradient.to(hidden_gradient.dtype)),
            weight_gradient.mul_(gradient.to(weight_gradient.dtype)),
            None,
        )


def _slope(logits: Tensor, targets: Tensor) -> Tensor:
    """The derivative of each row's loss by its logits, softmax minus one-hot, in the memory of the logits."""
    slope = torch.softmax(logits, dim=-1, out=logits)
    counts = targets != IGNORED
    slope.scatter_add_(1, targets.clamp(min=0)[:, None], torch.full_like(slope[:, :1], -1.0))
    return slope.mul_(counts[:, None])


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)
