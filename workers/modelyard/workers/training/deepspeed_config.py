"""Derive a DeepSpeed configuration from a spec (https://www.deepspeed.ai/docs/config-json/)."""

from typing import Any

from modelyard.domain.specs.finetuning import FinetuneSpec
from modelyard.domain.specs.pretraining import PretrainSpec


def derive_config(spec: PretrainSpec | FinetuneSpec, device: str) -> dict[str, Any]:
    """Return the configuration of a run; the spec's `override` is merged over it, key by key."""
    optimizer = spec.optimizer
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": spec.micro_batch_size,
        "gradient_accumulation_steps": spec.gradient_accumulation_steps,
        "gradient_clipping": optimizer.max_grad_norm,
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": optimizer.learning_rate,
                "betas": [0.9, 0.95],
                "eps": 1e-8,
                "weight_decay": optimizer.weight_decay,
                # DeepSpeed's own Adam is compiled on first use: minutes on CPU, and a CUDA toolkit on GPU machines.
                # torch's fused kernel is as fast there and comes with the wheel.
                "torch_adam": True,
                "fused": device == "cuda",
            },
        },
        "zero_optimization": {"stage": spec.deepspeed.zero_stage},
        "bf16": {"enabled": spec.precision == "bf16"},
        # DeepSpeed's own lines say nothing that our metrics do not.
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
    }
    return merge(config, spec.deepspeed.override)


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid on top; dictionaries are merged, anything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        inner = merged.get(key)
        merged[key] = merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged
