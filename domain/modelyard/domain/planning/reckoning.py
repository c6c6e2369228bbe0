"""What a training run needs of memory, held against the machines that could run it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from modelyard.domain.planning.machines import Fit, Machine, Need, fits_somewhere, judge_machines
from modelyard.domain.planning.memory import Memory, predict_memory
from modelyard.domain.planning.setups import Setup
from modelyard.domain.planning.tokens import Tokens


@dataclass(frozen=True)
class Requirement:
    """Memory a run needs, and who has it."""

    memory: Memory
    machines: list[Fit]
    fits: bool | None
    """None where no machine said how much it has."""


def require(setup: Setup, kind: str, machines: Sequence[Machine]) -> Requirement:
    """Hold a run's memory against the machines that serve its queue."""
    memory = predict_memory(setup, kind)
    fits = judge_machines(need_of(setup, memory), machines)
    return Requirement(memory, fits, fits_somewhere(fits))


def need_of(setup: Setup, memory: Memory) -> Need:
    """What one machine must have for the ranks it runs."""
    if setup.accelerator == "cpu":
        return Need(host_bytes=memory.bytes * setup.ranks_per_host)
    return Need(memory.bytes, memory.offloaded_bytes * setup.ranks_per_host)


def shorten(setup: Setup, tokens: Tokens) -> Setup:
    """What the data says of the memory: how long the sequences of a pass are, and that only some tokens are learned."""
    length = setup.sequence_length
    if setup.layout == "padded" and tokens.longest is not None:
        length = min(length, tokens.longest)
    elif tokens.largest_pass is not None:
        length = -(-tokens.largest_pass // setup.sequences_per_pass)
    return replace(setup, sequence_length=length, learned_share=tokens.learned_share or 1.0)
