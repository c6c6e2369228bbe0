"""Derive a DeepSpeed configuration from a spec (https://www.deepspeed.ai/docs/config-json/)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from modelyard.domain.specs.finetuning import TuningSpec
from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.workers.recipe import BadData, Run
from modelyard.workers.training.tensor_parallel import describe_cuts


def derive_config(spec: PretrainSpec | TuningSpec, device: str, ranks: int = 1) -> dict[str, Any]:
    """Return the configuration of a run; the spec's `override` is merged over it, key by key.

    An optimizer named there has the parameters named there, and the learning rate.
    """
    chosen = spec.optimizer
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": spec.micro_batch_size,
        "gradient_accumulation_steps": spec.rounds(ranks),
        "gradient_clipping": chosen.max_grad_norm,
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": chosen.learning_rate,
                "betas": list(chosen.betas),
                "eps": chosen.eps,
                "weight_decay": chosen.weight_decay,
                # DeepSpeed's own Adam is compiled on first use: minutes on CPU, and a CUDA toolkit on GPU machines.
                # torch's fused kernel is as fast there and comes with the wheel.
                "torch_adam": True,
                "fused": True,
            },
        },
        "zero_optimization": _zero(spec, ranks),
        **_precision(spec, ranks),
        # Optimizers of torch are as good under ZeRO as DeepSpeed's own.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        # DeepSpeed's own lines say nothing that our metrics do not.
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
    }
    if isinstance(spec, PretrainSpec):
        config |= describe_cuts(spec)
    if "type" in spec.deepspeed.override.get("optimizer", {}):
        # What another optimizer knows of ours is not sure; all know a learning rate.
        config["optimizer"]["params"] = {"lr": chosen.learning_rate}
    return merge(config, spec.deepspeed.override)


@contextmanager
def blame_override(spec: PretrainSpec | TuningSpec) -> Iterator[None]:
    """Turn what DeepSpeed and its optimizers make of an override they do not take into `BadData`."""
    try:
        yield
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        if not spec.deepspeed.override:
            raise
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadData(f"deepspeed.override {spec.deepspeed.override}: DeepSpeed does not take it ({said}); mend it") from error


def check_precision(run: Run[Any]) -> None:
    """Raise `BadData` for numbers this machine does not compute in."""
    if run.spec.precision == "fp16" and run.device != "cuda":
        raise BadData("precision fp16 needs a GPU: a CPU has no 16-bit kernels for it that are exact enough; take bf16 or fp32")


def _zero(spec: PretrainSpec | TuningSpec, ranks: int) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": spec.zero_stage(ranks)}
    if spec.deepspeed.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu"}
    if spec.deepspeed.offload == "parameters":
        zero["offload_param"] = {"device": "cpu"}
    return zero


def _precision(spec: PretrainSpec | TuningSpec, ranks: int) -> dict[str, Any]:
    half = {"bf16": "bfloat16", "fp16": "float16"}
    if isinstance(spec, PretrainSpec) and spec.precision != "fp32" and spec.zero_stage(ranks) == 0:
        # With nothing to share out, weights stay as they are in fp32 and products are computed in 16 bits: no second copy of
        # the weights is kept and converted, and optimizers see matrices, not one long vector.
        return {"bf16": {"enabled": False}, "torch_autocast": {"enabled": True, "dtype": half[spec.precision]}}
    if spec.precision == "fp16":
        return {"bf16": {"enabled": False}, "fp16": {"enabled": True}}
    return {"bf16": {"enabled": spec.precision == "bf16"}}


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid on top; dictionaries are merged, anything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        inner = merged.get(key)
        merged[key] = merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged
