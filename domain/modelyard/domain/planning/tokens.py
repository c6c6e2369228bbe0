"""How many tokens a run sees, how often it sees the data, and what of it is cut off. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.domain.planning.setups import Setup


@dataclass(frozen=True)
class Row:
    """One row of a dataset, tokenized whole."""

    tokens: int
    prompt_tokens: int = 0
    """Those before the answer, in a conversation."""


@dataclass(frozen=True)
class Sample:
    """Rows looked at, of so many."""

    rows: Sequence[Row]
    of: int
    """Rows of the whole split."""


@dataclass(frozen=True)
class Tokens:
    """What a run learns from."""

    per_step: int
    """Places for tokens in one optimizer step of all ranks; padding takes some where rows are padded."""
    total: int
    dataset: int | None
    """Tokens of the training split; None where there is no tokenizer yet."""
    epochs: float | None
    """How often the run sees each row."""
    truncated_share: float | None
    """Share of rows that lose their end."""
    dropped_share: float | None
    """Share of rows of which nothing to learn from would be left."""
    longest: int | None
    """Tokens of the longest row looked at."""
    basis: str


def predict_tokens(setup: Setup, sample: Sample | None) -> Tokens:
    """Tokens of a run, as far as they can be known before it."""
    per_step = setup.tokens_per_step
    total = per_step * setup.steps
    if sample is None or not sample.rows:
        why = "the job trains its own tokenizer, or its data cannot be tokenized yet (a preview says why)"
        return Tokens(per_step, total, None, None, None, None, None, why)
    counts = [row.tokens for row in sample.rows]
    dataset = round(sum(counts) / len(counts) * sample.of)
    basis = "from all rows" if len(counts) >= sample.of else f"from {len(counts)} of {sample.of} rows"
    if not setup.is_padded:  # packed: every token finds a place
        return Tokens(per_step, total, dataset, total / dataset, 0.0, 0.0, max(counts), basis)
    limit = setup.sequence_length
    dropped = sum(row.prompt_tokens >= limit for row in sample.rows)
    truncated = sum(row.tokens > limit > row.prompt_tokens for row in sample.rows)
    kept = sample.of * (1 - dropped / len(counts))
    epochs = setup.global_batch_size * setup.steps / kept if kept else None
    return Tokens(per_step, total, dataset, epochs, truncated / len(counts), dropped / len(counts), max(counts), basis)
