"""How many tokens a run sees, how often it sees the data, and what of it is cut off. Pure."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modelyard.domain.planning.setups import Setup

MOST_PASSES = 2000
"""So many passes are dealt out to find the largest of a run; of more of them the largest hardly grows."""
MOST_DEALT = 500_000
"""Rows dealt out for that; passes of very many rows are all alike."""


@dataclass(frozen=True)
class Row:
    """One row of a dataset, tokenized whole."""

    tokens: int
    prompt_tokens: int = 0
    """Those before the first that is learned."""
    learned_tokens: int | None = None
    """Those of the first sequence that are learned; None: all. 0 where the row is left out."""
    second: "Row | None" = None
    """The other answer of a pair, after the same prompt."""

    @property
    def learned(self) -> int:
        """Tokens of the first sequence that are learned."""
        return self.tokens if self.learned_tokens is None else self.learned_tokens

    @property
    def sequences(self) -> tuple["Row", ...]:
        """What goes through the model each for itself."""
        return (self,) if self.second is None else (self, self.second)


def read_row(shown: Mapping[str, Any]) -> Row:
    """A row as the program that tokenizes rows shows it."""
    first, *rest = (Row(each["count"], each["prompt"], 0 if shown["dropped"] else each["learned"]) for each in shown["sequences"])
    return replace(first, second=rest[0]) if rest else first


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
    """Tokens of the training split, both sequences of a pair counted; None where there is no tokenizer yet."""
    epochs: float | None
    """How often the run sees each row."""
    truncated_share: float | None
    """Share of rows that lose their end."""
    dropped_share: float | None
    """Share of rows of which nothing to learn from would be left."""
    longest: int | None
    """Tokens of the longest sequence of the rows looked at, answers the model samples at their longest."""
    learned_share: float | None
    """Share of tokens that are learned, the others being context."""
    basis: str
    largest_pass: int | None = None
    """Tokens of the largest pass a rank will probably see, where a pass takes a set number of rows as they are."""


def predict_tokens(setup: Setup, sample: Sample | None) -> Tokens:
    """Tokens of a run, as far as they can be known before it."""
    per_step = setup.tokens_per_step
    total = per_step * setup.steps
    if sample is None or not sample.rows:
        why = "the job trains its own tokenizer, or its data cannot be tokenized yet (a preview says why)"
        return Tokens(per_step, total, None, None, None, None, None, None, why)
    counts = [sum(each.tokens for each in row.sequences) for row in sample.rows]
    dataset = round(sum(counts) / len(counts) * sample.of)
    basis = "from all rows" if len(counts) >= sample.of else f"from {len(counts)} of {sample.of} rows"
    if setup.layout == "cut":  # every token finds a place
        return Tokens(per_step, total, dataset, total / dataset, 0.0, 0.0, max(counts), 1.0, basis)
    limit = setup.sequence_length
    rows = [replace(row, tokens=row.tokens + setup.new_tokens) for row in sample.rows]
    kept = [row for row in rows if all(each.learned for each in row.sequences)]
    widths = [sum(min(each.tokens, limit) for each in row.sequences) for row in kept]
    whole = setup.layout == "whole" and kept
    if whole:
        per_step = round(sum(widths) / len(kept) * _count_repeats(setup, kept) * setup.global_batch_size)
    return Tokens(
        per_step=per_step,
        total=per_step * setup.steps,
        dataset=dataset,
        epochs=_count_epochs(setup, widths, len(kept) / len(rows) * sample.of) if kept else None,
        truncated_share=sum(max(each.tokens for each in row.sequences) > limit for row in kept) / len(rows),
        dropped_share=1 - len(kept) / len(rows),
        longest=max(each.tokens for row in rows for each in row.sequences),
        learned_share=sum(each.learned for row in kept for each in row.sequences) / sum(widths) if kept else None,
        basis=basis,
        largest_pass=_find_largest_pass(setup, widths) * _count_repeats(setup, kept) if whole else None,
    )


def _count_epochs(setup: Setup, widths: Sequence[int], rows: float) -> float:
    """How often a run sees each row that is kept; packed sequences are taken to be full."""
    if setup.layout != "packed":
        return setup.global_batch_size * setup.steps / rows
    return setup.tokens_per_step * setup.steps / (rows * sum(widths) / len(widths))


def _count_repeats(setup: Setup, kept: Sequence[Row]) -> int:
    """How often the sequences of a row are in a pass: a problem as often as it is answered."""
    return setup.answers // len(kept[0].sequences)


def _find_largest_pass(setup: Setup, widths: Sequence[int]) -> int:
    """Rows dealt out to passes in shuffled rounds, as a run does it: of a pass with many, few are all long."""
    dealer, deck, largest = random.Random(0), list[int](), 0  # noqa: S311 - lengths are no secret
    passes = min(setup.steps * setup.accumulation * setup.ranks, MOST_PASSES, max(1, MOST_DEALT // setup.micro_batch_size))
    for _ in range(passes):
        while len(deck) < setup.micro_batch_size:
            deck += dealer.sample(widths, len(widths))
        largest = max(largest, sum(deck[: setup.micro_batch_size]))
        del deck[: setup.micro_batch_size]
    return largest
