"""Perplexity: how many tokens a model wavers between."""

from math import exp

LARGEST_LOSS = 700.0
"""Nats; the exponential of more than 709 is no float."""


def to_perplexity(loss: float) -> float:
    """Return the perplexity of a mean loss per token, in nats."""
    return exp(min(loss, LARGEST_LOSS))
