"""How many floating-point operations training takes by the model's own arithmetic, and how many a GPU could do.

Counted like in PaLM (Chowdhery et al. 2022, arXiv:2204.02311, appendix B): two operations per weight and token forwards, two
backwards for the activations, two for the weight itself if it learns; nothing for what is computed twice to save memory. What is
only read, by a reference or for an answer, costs the two forwards.
"""

from dataclasses import dataclass
from typing import Any

DENSE_BF16_PEAKS = {
    "B200": 2250e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Part of a GPU's name -> FLOP/s in bf16 by the vendor's data sheet, without sparsity. The first that fits counts."""


@dataclass(frozen=True)
class Work:
    """What went through the model in one optimizer step, over all ranks."""

    tokens: int
    """Padding not counted."""
    predictions: int
    """Tokens the head was applied to."""
    span: float
    """Tokens a sequence has on average: attention looks back over half of them."""
    read_tokens: int = 0
    """Tokens that went through without being learned from: for a reference, or for sampling answers."""
    read_predictions: int = 0
    """Of these, tokens the head was applied to."""


@dataclass(frozen=True)
class ModelCost:
    """Operations of forward and backward pass."""

    per_token: float
    """Of all layers but the head, attention over other tokens left out."""
    per_prediction: float
    """Of the head."""
    per_token_and_span: float
    """Of attention, per token and token of its sequence; causal, so half of all pairs."""
    weights: int
    """Of all layers but the head."""
    head_weights: int

    def of(self, work: Work) -> float:
        """Return the operations of an optimizer step."""
        attention = self.per_token_and_span * work.span
        learned = work.tokens * (self.per_token + attention) + work.predictions * self.per_prediction
        # Forwards only: two of the six operations per weight, and a third of attention's.
        read = work.read_tokens * (2 * self.weights + attention / 3) + work.read_predictions * 2 * self.head_weights
        return learned + read


def count_cost(model: Any) -> ModelCost | None:
    """Return the cost of a model of transformers; None where its weights do not tell: quantized ones, mixtures of experts."""
    config = model.config.get_text_config()
    has_experts = any(getattr(config, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts"))
    weights = list(model.parameters())
    if has_experts or not all(weight.is_floating_point() for weight in weights):
        return None
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if embedding is None or head is None or not hasattr(config, "num_attention_heads"):
        return None
    apart = {id(weight) for layer in (embedding, head) for weight in layer.parameters()}
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    inner = [weight for weight in weights if id(weight) not in apart]
    return ModelCost(
        per_token=float(sum(_cost_of(weight) for weight in inner)),
        per_prediction=float(sum(_cost_of(weight) for weight in head.parameters())),
        per_token_and_span=6.0 * config.num_hidden_layers * config.num_attention_heads * width,
        weights=sum(map(_count, inner)),
        head_weights=sum(map(_count, head.parameters())),
    )


def find_peak(device_name: str) -> float | None:
    """Return the FLOP/s of a GPU in bf16; None for one that is not in the table."""
    return next((peak for part, peak in DENSE_BF16_PEAKS.items() if part in device_name), None)


def _cost_of(weight: Any) -> int:
    return _count(weight) * (6 if weight.requires_grad else 4)


def _count(weight: Any) -> int:
    # A rank may hold a part only, but knows how large the whole is: under ZeRO 3, and of matrices that are cut up.
    return int(getattr(weight, "ds_numel", None) or getattr(weight, "whole_numel", None) or weight.numel())
