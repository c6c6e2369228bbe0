"""How many tokens a run sees, how often it sees the data, and what of it is cut off. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.domain.planning.setups import Setup


@dataclass(frozen=True)
class Row:
    """One row of a dataset, tokenized whole."""

    tokens: int
    prompt_tokens: int = 0
    """Those before the first that is learned."""
    learned_tokens: int | None = None
    """Those of the first sequence that are learned; None: all."""

    @property
    def learned(self) -> int:
        """Tokens of the first sequence that are learned."""
        return self.tokens if self.learned_tokens is None else self.learned_tokens


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
    learned_share: float | None
    """Share of tokens that are learned, the others being context."""
    basis: str


def predict_tokens(setup: Setup, sample: Sample | None) -> Tokens:
    """Tokens of a run, as far as they can be known before it."""
    per_step = setup.tokens_per_step
    total = per_step * setup.steps
    if sample is None or not sample.rows:
        why = "the job trains its own tokenizer, or its data cannot be tokenized yet (a preview says why)"
        return Tokens(per_step, total, None, None, None, None, None, None, why)
    counts = [row.tokens for row in sample.rows]
    dataset = round(sum(counts) / len(counts) * sample.of)
    basis = "from all rows" if len(counts) >= sample.of else f"from {len(counts)} of {sample.of} rows"
    if setup.layout == "cut":  # every token finds a place
        return Tokens(per_step, total, dataset, total / dataset, 0.0, 0.0, max(counts), 1.0, basis)
    limit = setup.sequence_length
    kept = [row for row in sample.rows if row.learned]
    visible = sum(min(row.tokens, limit) for row in kept)
    return Tokens(
        per_step=per_step,
        total=total,
        dataset=dataset,
        epochs=_count_epochs(setup, kept, sample) if kept else None,
        truncated_share=sum(row.tokens > limit for row in kept) / len(counts),
        dropped_share=1 - len(kept) / len(counts),
        longest=max(counts),
        learned_share=sum(row.learned for row in kept) / visible if visible else None,
        basis=basis,
    )


def _count_epochs(setup: Setup, kept: Sequence[Row], sample: Sample) -> float:
    """How often a run sees each row that is kept; packed sequences are taken to be full."""
    rows = len(kept) / len(sample.rows) * sample.of
    if setup.layout == "padded":
        return setup.global_batch_size * setup.steps / rows
    mean = sum(min(row.tokens, setup.sequence_length) for row in kept) / len(kept)
    return setup.tokens_per_step * setup.steps / (rows * mean)
