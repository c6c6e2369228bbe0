"""The shape of a Llama-like decoder, read from its `config.json`; how many parameters it has follows from it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Family:
    """What the architectures of one `model_type` have beyond Llama's, where their configuration does not say."""

    input_bias: bool = False
    """Biases of the projections to queries, keys and values, whatever the configuration says."""
    output_bias: bool = True
    """Whether `attention_bias` covers the projection behind the attention too."""
    normalizes_heads: bool = False
    """RMSNorm over each head's queries and keys."""


FAMILIES: dict[str, Family] = {
    "llama": Family(),
    "mistral": Family(),
    "smollm3": Family(),
    "qwen2": Family(input_bias=True, output_bias=False),
    "qwen3": Family(normalizes_heads=True),
}
"""Model types whose parameters are counted by formula; tests hold them against transformers' own counts."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder: attention with grouped heads, a gated MLP, two RMSNorms per layer."""

    vocabulary_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    key_value_heads: int
    head_size: int
    context_length: int | None = None
    """Tokens its positions were made for."""
    ties_embeddings: bool = False
    """One matrix for input and output."""
    input_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    normalizes_heads: bool = False

    @property
    def query_size(self) -> int:
        """Width of all queries together."""
        return self.heads * self.head_size

    @property
    def key_size(self) -> int:
        """Width of all keys together, and of all values."""
        return self.key_value_heads * self.head_size


def read_shape(config: Mapping[str, Any]) -> Shape | None:
    """The shape a `config.json` describes; None for an architecture there is no formula for."""
    family = FAMILIES.get(str(config.get("model_type")))
    needed = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    if family is None or any(not isinstance(config.get(name), int) or config[name] < 1 for name in needed):
        return None
    heads, hidden, has_bias = config["num_attention_heads"], config["hidden_size"], bool(config.get("attention_bias"))
    return Shape(
        vocabulary_size=config["vocab_size"],
        hidden_size=hidden,
        intermediate_size=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        key_value_heads=config.get("num_key_value_heads") or heads,
        head_size=config.get("head_dim") or hidden // heads,
        context_length=config.get("max_position_embeddings"),
        ties_embeddings=bool(config.get("tie_word_embeddings")),
        input_bias=family.input_bias or has_bias,
        output_bias=family.output_bias and has_bias,
        mlp_bias=bool(config.get("mlp_bias")),
        normalizes_heads=family.normalizes_heads,
    )


def list_projections(shape: Shape) -> dict[str, tuple[int, int]]:
    """The matrices of one layer: name -> (inputs, outputs)."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    return {
        "q_proj": (hidden, shape.query_size),
        "k_proj": (hidden, shape.key_size),
        "v_proj": (hidden, shape.key_size),
        "o_proj": (shape.query_size, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }


def count_parameters(shape: Shape) -> int:
    """All parameters of the model, a matrix used twice counted once."""
    embeddings = shape.vocabulary_size * shape.hidden_size * (1 if shape.ties_embeddings else 2)
    return embeddings + shape.layers * _count_layer(shape) + shape.hidden_size


def _count_layer(shape: Shape) -> int:
    hidden, inner = shape.hidden_size, shape.intermediate_size
    matrices = sum(inputs * outputs for inputs, outputs in list_projections(shape).values())
    norms = 2 * hidden + (2 * shape.head_size if shape.normalizes_heads else 0)
    biases = (shape.query_size + 2 * shape.key_size) * shape.input_bias + hidden * shape.output_bias
    return matrices + norms + biases + (2 * inner + hidden) * shape.mlp_bias


def count_adapter_parameters(shape: Shape, rank: int, targets: Sequence[str], has_magnitudes: bool = False) -> int:
    """Parameters of a low-rank adapter: rank × (inputs + outputs) of each matrix it changes; `has_magnitudes`: DoRA's."""
    sizes = select_projections(shape, targets).values()
    return shape.layers * sum(rank * (inputs + outputs) + outputs * has_magnitudes for inputs, outputs in sizes)


def select_projections(shape: Shape, targets: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The matrices of a layer an adapter changes; `all-linear` names all of them."""
    known = list_projections(shape)
    return known if "all-linear" in targets else {name: known[name] for name in known if name in targets}
