"""What sampling answers takes: the keys and values of all tokens so far, and the choice of the next one. Pure."""

from modelyard.domain.planning.pieces import Piece
from modelyard.domain.planning.setups import Setup

CHOICE_COPIES = 4
"""Logits as they come, in fp32 over the temperature, their softmax, and what is drawn from: all (sequences, vocabulary)."""


def predict_cache(setup: Setup) -> Piece:
    """Keys and values of every layer at the end of all answers; a layer's are copied as they grow by a token."""
    if not setup.new_tokens:
        return Piece("keys and values", 0, "")
    shape, tokens = setup.shape, setup.tokens_per_pass
    numbers = 2 * shape.layers * shape.key_size + shape.key_size
    said = (
        f"{setup.sequences_per_pass} answers × {setup.sequence_length} tokens × ({shape.layers} layers × 2 + 1 that is copied) × "
        f"{shape.key_size} numbers × {setup.element_bytes} bytes"
    )
    return Piece("keys and values", tokens * numbers * setup.element_bytes, said)


def predict_choice(setup: Setup) -> Piece:
    """The prompts' activations in one layer, or the logits of the next token: one is gone when the other comes."""
    if not setup.new_tokens:
        return Piece("next tokens", 0, "")
    rows, words = setup.sequences_per_pass, setup.shape.vocabulary_size
    said = f"{rows} answers × {words:,} words × 4 bytes × {CHOICE_COPIES}"
    return Piece("next tokens", rows * words * 4 * CHOICE_COPIES, said)
