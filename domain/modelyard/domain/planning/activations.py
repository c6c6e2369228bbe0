"""What a forward pass leaves behind for the backward pass: activations of the layers, and the logits. Pure."""

from modelyard.domain.planning.pieces import Piece
from modelyard.domain.planning.setups import Setup
from modelyard.domain.planning.shapes import select_projections

LOGIT_COPIES = 3
"""The log-softmax, and two gradients on the way back: all in fp32, each (learned tokens, vocabulary)."""
LOGITS_AT_A_TIME = {"cpu": 2**24, "gpu": 2**26}
"""Where pre-training makes, uses and drops its logits a few rows at a time, so many exist at once."""
HOLES = {"pretrain": 0.2, "finetune": 0.7, "preference": 0.45, "grpo": 0.45}
"""Of what a layer makes and drops again on a CPU, this share stays with the process (measured): glibc cannot use the hole again
that an aligned block leaves between others, and training asks it to give nothing back. PyTorch's allocator for GPUs can."""

TRADE_COPIES = 8
"""Made of what ranks that share sequences trade: laid out, ordered, received and ordered again, forwards and backwards."""


def predict_activations(setup: Setup, kind: str) -> Piece:
    """Activations of all layers of one forward pass."""
    shape, tokens, per = setup.shape, setup.tokens_per_pass, setup.element_bytes
    share = HOLES[kind] if setup.accelerator == "cpu" else 0.0
    kept, dropped = count_kept(setup), round((count_made(setup) - count_kept(setup)) * share)
    one = f"{kept:,} numbers kept" + (f" + {dropped:,} in holes between them" if dropped else "")
    if setup.checkpoints_activations:
        inputs = shape.layers * shape.hidden_size
        said = f"{tokens:,} tokens × ({inputs:,} inputs of {shape.layers} layers + one layer's {one}) × {per} bytes"
        return Piece("activations", (inputs + kept + dropped) * tokens * per, said)
    numbers = shape.layers * ((kept + dropped) * tokens + _count_directions(setup))
    return Piece("activations", numbers * per, f"{tokens:,} tokens × {shape.layers} layers × ({one}) × {per} bytes")


def predict_logits(setup: Setup, in_portions: bool) -> Piece:
    """The logits of one forward pass and what the loss makes of them."""
    shape, tokens = setup.shape, round(setup.tokens_per_pass * setup.learned_share)
    most = LOGITS_AT_A_TIME[setup.accelerator]
    if not in_portions or tokens * shape.vocabulary_size <= most:
        said = (
            f"{tokens:,} learned tokens × {shape.vocabulary_size:,} words × 4 bytes × {LOGIT_COPIES} (log-softmax and gradients)"
        )
        return Piece("logits", tokens * shape.vocabulary_size * 4 * LOGIT_COPIES, said)
    head = shape.vocabulary_size * shape.hidden_size
    said = f"{most:,} logits at a time × 4 bytes × 2, and the gradient of the {head:,} weights that make them"
    return Piece("logits", most * 8 + head * 4, said)


def count_kept(setup: Setup) -> int:
    """Numbers one layer keeps per token, and where it is frozen only those an adapter or a product needs."""
    shape = setup.shape
    if setup.adapter is None:
        # Norms: input, normalized, output, twice. Queries, keys, values, the attention's output and its copy; four of the MLP.
        return 6 * shape.hidden_size + 3 * shape.query_size + 2 * shape.key_size + 4 * shape.intermediate_size
    chosen = select_projections(shape, setup.adapter.targets)
    # What several of them read is kept once.
    read = {_READS[name]: inputs for name, (inputs, _) in chosen.items()}
    frozen = 2 * shape.hidden_size + 2 * shape.query_size + 2 * shape.key_size + 3 * shape.intermediate_size
    return frozen + sum(read.values()) + setup.adapter.rank * len(chosen)


_READS = {
    "q_proj": "attention", "k_proj": "attention", "v_proj": "attention", "o_proj": "heads",
    "gate_proj": "mlp", "up_proj": "mlp", "down_proj": "product",
}  # fmt: skip
"""Projection -> what it is multiplied with."""


def count_made(setup: Setup) -> int:
    """Numbers one layer makes per token, kept or not."""
    shape = setup.shape
    # Two norms of two steps and two sums; projections, four steps of the rotation, output and its copy; four of the MLP.
    made = 8 * shape.hidden_size + 7 * shape.query_size + 6 * shape.key_size + 4 * shape.intermediate_size
    if setup.layout in {"packed", "whole"}:  # parts of the attention are laid together again
        made += shape.query_size
    if setup.sequence_parallel_size > 1:  # queries, keys, values and the output change ranks
        made += TRADE_COPIES * 2 * (shape.query_size + shape.key_size)
    if setup.adapter is None:
        return made
    chosen = select_projections(shape, setup.adapter.targets)
    return made + sum(3 * outputs for _, outputs in chosen.values()) + setup.adapter.rank * len(chosen)


def _count_directions(setup: Setup) -> int:
    """DoRA makes each adapted matrix anew to measure its columns: two of them are kept, whatever the batch."""
    if setup.adapter is None or not setup.adapter.has_magnitudes:
        return 0
    return 2 * sum(inputs * outputs for inputs, outputs in select_projections(setup.shape, setup.adapter.targets).values())
