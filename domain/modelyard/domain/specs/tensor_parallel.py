"""Several ranks that compute each matrix product together: the model types it is proven for, and what cannot be cut evenly."""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from modelyard.domain.specs.sequence_parallel import MATRICES_FIELD as FIELD
from modelyard.domain.specs.sequence_parallel import list_sizes
from modelyard.domain.specs.training import TrainingSpec

CUT_MODEL_TYPES = frozenset({"llama", "mistral", "qwen2", "smollm3"})
"""Model types whose layers are made of Llama's matrices, and of nothing between them that sees the heads of one rank only."""
CUT = {
    "heads": "num_attention_heads",
    "key_value_heads": "num_key_value_heads",
    "intermediate_size": "intermediate_size",
}
"""What each rank gets an even part of: its name in an architecture -> in a configuration of transformers."""

NOT_CUT: dict[str, tuple[tuple[object, ...], str]] = {
    "optimizer.name": (("muon", "adafactor"), "works on whole matrices; take adamw"),
    "precision": (("fp16",), "finds the scale of its loss on each rank alone; take bf16"),
    "compile": (("on",), "is for layers that wait for no other rank; set it to off"),
    "kernels": (("liger",), "is not proven for layers in parts; set it to auto"),
    "deepspeed.zero_stage": ((3,), "shares out the weights by itself; take 0, 1 or 2"),
    "deepspeed.offload": (("optimizer", "parameters"), "is not proven for weights in parts; set it to none"),
}
"""Field -> values that do not go with matrices in parts, and why."""


def find_uncuttable(size: int, config: Mapping[str, Any]) -> str | None:
    """Why a model with this configuration of transformers cannot be cut up for so many ranks; None if it can. Pure.

    What the configuration leaves out is not judged.
    """
    model_type = config.get("model_type")
    if model_type is not None and model_type not in CUT_MODEL_TYPES:
        return (
            f"{FIELD} {size} does not go with model_type {model_type!r}; set it to 1, or take one of "
            f"{', '.join(sorted(CUT_MODEL_TYPES))}"
        )
    for name, key in CUT.items():
        count = config.get(key)
        if count is not None and count % size:
            return f"{name} {count} cannot be cut evenly for {FIELD} {size}; {list_sizes(count)}"
    return None


def refuse_whole_matrices(size: int, spec: TrainingSpec) -> None:
    """Raise `ValueError` for a choice that does not go with matrices in parts."""
    for name, (refused, reason) in NOT_CUT.items():
        value = attrgetter(name)(spec)
        if value in refused:
            raise ValueError(f"{FIELD} {size} does not go with {name} {value}, which {reason}")
    if "optimizer" in spec.deepspeed.override:
        raise ValueError(
            f"{FIELD} {size} does not go with deepspeed.override.optimizer, which may work on whole matrices; set optimizer"
        )
