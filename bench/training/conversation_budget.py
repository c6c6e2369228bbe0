"""How much there is to train on in one pass over conversations, counted by Modelyard's own tokenization."""

from dataclasses import dataclass
from math import ceil
from pathlib import Path

from modelyard.workers.dataset import open_dataset
from modelyard.workers.training.completions import tokenize_completions
from modelyard.workers.training.grouping import pack


@dataclass(frozen=True)
class Budget:
    """One pass over the conversations, for every subject."""

    conversations: int
    tokens: int
    """Padding not counted."""
    sequences: int
    """Full ones they fill when packed."""
    longest: int
    middle: int
    """The median length in tokens."""

    def conversations_per_sequence(self) -> int:
        """How many an unpacked batch takes, so that it makes about as many steps as a packed one."""
        return max(1, ceil(self.conversations / self.sequences))


def count_budget(dataset: Path, model: Path, sequence_length: int) -> Budget:
    """Tokenize and pack the training split."""
    from transformers import AutoTokenizer

    rows = open_dataset(dataset, "chat").rows("train")
    found = tokenize_completions(rows, AutoTokenizer.from_pretrained(model), sequence_length)
    lengths = sorted(len(example.tokens) for example in found.examples)
    groups = pack(lengths, sequence_length)
    return Budget(len(lengths), sum(lengths), len(groups), lengths[-1], lengths[len(lengths) // 2])
