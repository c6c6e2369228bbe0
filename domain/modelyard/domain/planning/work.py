"""How much arithmetic a training step is, so that runs of different sizes can be compared. Pure."""

from modelyard.domain.planning.setups import Setup
from modelyard.domain.planning.shapes import list_projections


def count_step_operations(setup: Setup) -> float:
    """Floating-point operations of one rank in one optimizer step.

    Two per matrix element and token forwards, twice that backwards (Kaplan et al. 2020, arXiv:2001.08361, table 1); an adapter
    saves the half of the backward pass that would be the gradients of the frozen matrices. The attention's own products grow
    with the sequence (half of them, for tokens look back only). Recomputing activations is one more forward pass, and so is
    asking the base, and sampling the answers.
    """
    setup = setup.of_rank()
    shape = setup.shape
    matrices = shape.layers * sum(inputs * outputs for inputs, outputs in list_projections(shape).values())
    forward = 2 * (matrices + shape.vocabulary_size * shape.hidden_size)
    attention = 2 * shape.layers * shape.query_size * setup.sequence_length
    passes = 3.0 if setup.adapter is None else 2.0
    per_token = forward * passes + attention * 3.0
    more = setup.checkpoints_activations + setup.asks_base + (setup.new_tokens > 0)
    per_token += more * (forward + attention)
    return per_token * setup.tokens_per_pass * setup.accumulation
