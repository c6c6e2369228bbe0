"""What a forward pass leaves behind for the backward pass: activations of the layers, and the logits. Pure."""

from modelyard.domain.planning.pieces import Piece
from modelyard.domain.planning.setups import Setup
from modelyard.domain.planning.shapes import Shape, select_projections

LOGIT_COPIES = 3
"""Logits, their log-softmax and the gradient: all in fp32, each (batch, sequence, vocabulary)."""
ALLOCATOR_OVERHEAD = 1.0
"""Share of memory the allocator holds beyond what lives (measured)."""


def predict_activations(setup: Setup) -> list[Piece]:
    """Activations of all layers of one forward pass."""
    per_layer, tokens = count_numbers(setup), setup.tokens_per_pass
    layers, per = setup.shape.layers, setup.element_bytes
    if setup.checkpoints_activations:
        kept = layers * setup.shape.hidden_size
        size = (kept + per_layer) * tokens * per
        said = f"{tokens:,} tokens × ({kept:,} inputs of {layers} layers + {per_layer:,} numbers of one) × {per} bytes"
    else:
        size = layers * per_layer * tokens * per
        said = f"{tokens:,} tokens × {layers} layers × {per_layer:,} numbers × {per} bytes"
    return [Piece("activations", round(size * ALLOCATOR_OVERHEAD), said)]


def predict_logits(setup: Setup) -> Piece:
    """The logits of one forward pass and what the loss makes of them."""
    vocabulary, tokens = setup.shape.vocabulary_size, round(setup.tokens_per_pass * setup.learned_share)
    said = f"{tokens:,} learned tokens × {vocabulary:,} words × 4 bytes × {LOGIT_COPIES} (logits, log-softmax, gradient)"
    return Piece("logits", tokens * vocabulary * 4 * LOGIT_COPIES, said)


def count_numbers(setup: Setup) -> int:
    """Numbers one layer keeps per token."""
    return _count_learning(setup.shape) if setup.adapter is None else _count_adapted(setup)


def _count_learning(shape: Shape) -> int:
    """Norms: input, normalized, output, twice. Attention: queries, keys, values, output, and its copy. MLP: four of its width."""
    return 6 * shape.hidden_size + 3 * shape.query_size + 2 * shape.key_size + 4 * shape.intermediate_size


def _count_adapted(setup: Setup) -> int:
    """What frozen matrices are multiplied with need not be kept, unless an adapter is fed by it."""
    shape, adapter = setup.shape, setup.adapter
    assert adapter is not None
    chosen = select_projections(shape, adapter.targets)
    inputs = {"attention": 0, "mlp": 0, "o_proj": 0, "down_proj": 0}
    for name, (width, _) in chosen.items():
        place = {"q_proj": "attention", "k_proj": "attention", "v_proj": "attention", "gate_proj": "mlp", "up_proj": "mlp"}
        inputs[place.get(name, name)] = width
    norms = 2 * shape.hidden_size
    attention = 2 * shape.query_size + 2 * shape.key_size
    mlp = 3 * shape.intermediate_size
    return norms + attention + mlp + sum(inputs.values()) + adapter.rank * len(chosen)
