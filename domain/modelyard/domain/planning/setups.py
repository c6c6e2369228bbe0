"""A training run as numbers: all that its memory, disk, tokens and work follow from."""

from dataclasses import dataclass, replace
from typing import Literal

from modelyard.domain.planning.shapes import Shape, count_adapter_parameters, count_parameters

ELEMENT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
"""Bytes of one number."""
Accelerator = Literal["cpu", "gpu"]
Layout = Literal["cut", "packed", "whole", "padded"]
"""How rows fill sequences: cut to fill each of them; packed as wholes, as many as there is room for; a set number of them end to
end, as long as they are (`whole`); or one in each and padded to the longest of its batch."""


@dataclass(frozen=True)
class Adapter:
    """A low-rank adapter: the base stays as it is."""

    rank: int
    targets: tuple[str, ...]
    has_magnitudes: bool = False
    """DoRA learns the length of each column too."""
    is_base_quantized: bool = False
    """QLoRA keeps the base in 4 bits."""


@dataclass(frozen=True)
class Setup:
    """A training run."""

    shape: Shape
    micro_batch_size: int
    """Sequences, pairs or problems per rank, or group of ranks that share them, and forward pass."""
    sequence_length: int
    """Tokens of one sequence."""
    steps: int
    accumulation: int = 1
    """Forward passes per optimizer step."""
    ranks: int = 1
    ranks_per_host: int = 1
    sequence_parallel_size: int = 1
    """Ranks that share each sequence."""
    tensor_parallel_size: int = 1
    """Ranks that have parts of each of the layers' matrices."""
    accelerator: Accelerator = "cpu"
    precision: str = "fp32"
    zero_stage: int = 0
    offload: str = "none"
    """What stays in the host's memory: `none`, `optimizer`, `parameters` (and the optimizer)."""
    optimizer: str = "adamw"
    checkpoints_activations: bool = False
    adapter: Adapter | None = None
    layout: Layout = "cut"
    answers: int = 1
    """Sequences of each row that go through the model together: both answers of a pair, all answers to a problem."""
    new_tokens: int = 0
    """Tokens of an answer that the model samples itself; 0 where all are given."""
    asks_base: bool = False
    """Whether the base, without its adapter, scores each pass too."""
    learned_share: float = 1.0
    """Share of tokens that are learned; logits are computed for these only."""
    keeps_global_batch: bool = False
    """Whether the passes of a step follow from the sequences it sees, and are not asked for themselves."""
    saves_between_steps: bool = True
    """Whether a checkpoint is saved before the last step."""
    keeps_first_state: bool = False
    """Whether a copy of the state is there from the first step on, to go back to."""
    kept_checkpoints: int = 2

    @property
    def parameters(self) -> int:
        """All parameters of the model, without an adapter's."""
        return count_parameters(self.shape)

    @property
    def trainable_parameters(self) -> int:
        """Those that learn."""
        if self.adapter is None:
            return self.parameters
        return count_adapter_parameters(self.shape, self.adapter.rank, self.adapter.targets, self.adapter.has_magnitudes)

    @property
    def element_bytes(self) -> int:
        """Bytes of one weight or activation."""
        return ELEMENT_BYTES[self.precision]

    @property
    def tokens_per_pass(self) -> int:
        """Tokens of one forward pass of one rank."""
        return self.sequences_per_pass * self.sequence_length // self.sequence_parallel_size

    @property
    def sequences_per_pass(self) -> int:
        """Sequences of one forward pass of one rank."""
        return self.micro_batch_size * self.answers

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimizer step of all ranks."""
        return self.tokens_per_pass * self.accumulation * self.ranks // self.tensor_parallel_size

    @property
    def global_batch_size(self) -> int:
        """Sequences, pairs or problems of one optimizer step."""
        readers = self.ranks // (self.sequence_parallel_size * self.tensor_parallel_size)
        return self.micro_batch_size * self.accumulation * readers

    def of_rank(self) -> "Setup":
        """What one rank sees of it: its parts of matrices as a smaller model, and only the ranks with the same parts."""
        parts, shape = self.tensor_parallel_size, self.shape
        if parts == 1:
            return self
        part = replace(
            shape,
            heads=max(1, shape.heads // parts),
            key_value_heads=max(1, shape.key_value_heads // parts),
            intermediate_size=max(1, shape.intermediate_size // parts),
        )
        return replace(self, shape=part, ranks=max(1, self.ranks // parts), tensor_parallel_size=1)
