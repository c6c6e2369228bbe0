"""What a configuration of transformers may say, as far as it can be known without transformers."""

import math
from typing import Any

from modelyard.domain.specs.architectures import CAUSAL_MODEL_TYPES

SIZES = (
    "vocab_size", "max_position_embeddings", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "n_embd", "n_layer", "n_head", "n_positions", "n_inner",
)  # fmt: skip
"""Settings that are whole numbers wherever they are known."""
MAY_BE_NULL = frozenset({"num_key_value_heads", "head_dim", "n_inner"})
"""Those of which null stands for a default."""
LARGEST_SIZE = 2**31


def refuse_wrong_config(config: dict[str, Any]) -> None:
    """Raise `ValueError` for one that names code, no known architecture, or sizes no model has."""
    if "auto_map" in config:
        raise ValueError("config.auto_map names code to run, which is never loaded; leave it out")
    if config.get("model_type") not in CAUSAL_MODEL_TYPES:
        raise ValueError(
            f"config.model_type {config.get('model_type')!r} is not a causal language model this platform trains; "
            f"take one of {', '.join(CAUSAL_MODEL_TYPES)}"
        )
    for name in SIZES:
        if name in config and not _is_size(config[name]) and not (config[name] is None and name in MAY_BE_NULL):
            raise ValueError(f"config.{name} {config[name]!r} is no size: give a whole number above 0, or leave it out")
    heads, groups = config.get("num_attention_heads"), config.get("num_key_value_heads")
    if heads is not None and groups is not None and heads % groups:
        raise ValueError(
            f"config.num_key_value_heads {groups} does not divide config.num_attention_heads {heads}; "
            f"{math.gcd(heads, groups)} would"
        )


def _is_size(value: Any) -> bool:
    return type(value) is int and 1 <= value < LARGEST_SIZE
