"""What all training has in common: the optimizer, and what DeepSpeed is told."""

from typing import Any, Literal

from pydantic import Field

from modelyard.domain.specs.base import SpecModel


class DeepSpeedSpec(SpecModel):
    """The few DeepSpeed choices most runs need; `override` is merged over the configuration derived from them."""

    zero_stage: Literal[0, 1, 2, 3] = 0
    override: dict[str, Any] = {}
    """Any DeepSpeed configuration keys; they win over what is derived."""


class OptimizerSpec(SpecModel):
    """AdamW with linear warm-up and cosine decay."""

    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    warmup_ratio: float = Field(default=0.05, ge=0, le=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
