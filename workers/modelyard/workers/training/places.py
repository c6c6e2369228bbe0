"""Which sequences a rank reads, and which part of them it works on."""

from dataclasses import dataclass

from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.workers.recipe import Run


@dataclass(frozen=True)
class Place:
    """Where a rank stands: neighbouring ranks that share sequences, or matrices, are one group, which reads them together."""

    group: int
    groups: int
    part: int
    parts: int
    """How many ranks share a sequence."""


def place_of(run: Run[PretrainSpec]) -> Place:
    """Return the place of this rank."""
    parts = run.spec.deepspeed.sequence_parallel_size
    # Ranks that have parts of matrices work on the same tokens.
    group, part = divmod(run.rank // run.spec.deepspeed.tensor_parallel_size, parts)
    return Place(group, run.spec.data_parallel_size(run.world_size), part, parts)


WHOLE = Place(0, 1, 0, 1)
"""Of a rank that is alone."""
