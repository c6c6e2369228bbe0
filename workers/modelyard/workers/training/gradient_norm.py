"""The norm of all gradients, also where DeepSpeed computes it but does not tell. Importing this imports torch."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed
from deepspeed.utils import groups
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from modelyard.workers.training.tensor_parallel import is_cut, ranks_per_matrix

EPSILON = 1e-6
"""Added to the norm before dividing by it, as in torch's `clip_grad_norm_`."""


def keep_gradient_norm(engine: Any) -> None:
    """Make `engine.get_global_grad_norm()` answer without ZeRO too.

    In plain fp32 the engine clips by the norm and throws it away; its ZeRO and bf16 optimizers keep it.
    """
    if engine.zero_optimization_stage() > 0 or engine.bfloat16_enabled() or engine.fp16_enabled():
        return
    parameters = list(engine.module.parameters())
    peers = groups.get_tensor_model_parallel_group() if ranks_per_matrix(engine) > 1 else None
    is_fused = isinstance(engine.optimizer, torch.optim.AdamW) and bool(engine.optimizer.defaults["fused"])
    scales_itself = is_fused and not engine.torch_autocast_z0_gradscaler  # that one would set its own divisor

    def clip() -> None:
        norm = measure_norm(parameters, peers)
        engine._global_grad_norm = norm
        if scales_itself:
            # The kernel divides by it as it goes: one pass over all gradients less.
            engine.optimizer.grad_scale = find_divisor(norm, engine.gradient_clipping())
        else:
            clip_grads_with_norm_(parameters, engine.gradient_clipping(), norm, foreach=True)

    engine.clip_fp32_gradients = clip


def measure_norm(parameters: Sequence[Tensor], peers: Any = None) -> Tensor:
    """Return the norm of all gradients, once each is the sum over the ranks that have the same weights.

    `peers`: the group of ranks with other parts of the matrices; None where each rank has whole ones.
    """
    found = [each for each in parameters if each.grad is not None]
    if peers is None:
        return get_total_norm([each.grad for each in found], foreach=True)
    cut, whole = ([each.grad for each in found if is_cut(each) is parted] for parted in (True, False))
    squares = get_total_norm(cut, foreach=True).square()
    torch.distributed.all_reduce(squares, group=peers)
    return (squares + get_total_norm(whole, foreach=True).square()).sqrt()


def find_divisor(norm: Tensor, most: float) -> Tensor:
    """Return what gradients of this norm are divided by so that their norm is at most `most`."""
    return ((norm + EPSILON) / most).clamp(min=1.0)
