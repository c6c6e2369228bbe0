"""Whether what a model learned still consists of numbers. Importing this imports torch."""

from typing import Any

import torch

from modelyard.workers.training.distributed import sum_over_ranks


def are_weights_finite(engine: Any) -> bool:
    """Whether all weights that learn are finite, on every rank. All ranks together."""
    (broken,) = sum_over_ranks(0.0 if _are_finite_here(engine) else 1.0)
    return broken == 0


@torch.no_grad()
def _are_finite_here(engine: Any) -> bool:
    # Under ZeRO 3 a rank has a part of each. The extremes of a tensor cannot overflow, as its sum could.
    learning = (getattr(weight, "ds_tensor", weight) for weight in engine.module.parameters() if weight.requires_grad)
    extremes = [torch.stack(torch.aminmax(weight.detach())).float() for weight in learning if weight.numel()]
    return not extremes or bool(torch.stack(extremes).isfinite().all())
