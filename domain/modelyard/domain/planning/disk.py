"""What a training run writes to the artifact store. Pure."""

from dataclasses import dataclass

from modelyard.domain.planning.pieces import Piece
from modelyard.domain.planning.setups import Setup

ADAM_STATES = 2
STATE_BYTES = 4
"""Optimizer states and the weights they update are kept in fp32 whatever the precision."""


@dataclass(frozen=True)
class Disk:
    """Bytes in the artifact store."""

    checkpoint: Piece
    """One checkpoint, all ranks together."""
    kept: int
    """So many stay at most at a time, and one more while it is written."""
    outputs: Piece

    @property
    def total_bytes(self) -> int:
        """The most there is at a time."""
        return self.checkpoint.bytes * (self.kept + 1) + self.outputs.bytes


def predict_disk(setup: Setup) -> Disk:
    """Sizes of checkpoints and outputs."""
    # What is whole on ranks with parts of the others is saved by each of these.
    learning, weight = setup.of_rank().trainable_parameters * setup.tensor_parallel_size, setup.element_bytes
    has_copy = setup.zero_stage > 0 or setup.precision != "fp32"
    states = (ADAM_STATES + has_copy) * STATE_BYTES
    checkpoint = Piece(
        "checkpoint",
        learning * (weight + states),
        f"{learning:,} learning parameters × ({weight} bytes of weights + {states} of optimizer states)",
    )
    merged = setup.parameters * weight
    formula = f"{setup.parameters:,} parameters × {weight} bytes"
    if setup.adapter is None:
        return Disk(checkpoint, setup.kept_checkpoints, Piece("model", merged, formula))
    outputs = Piece("merged model and adapter", merged + learning * weight, f"{formula} + {learning:,} × {weight}")
    return Disk(checkpoint, setup.kept_checkpoints, outputs)
