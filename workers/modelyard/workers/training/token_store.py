"""Token ids of a corpus in one memory-mapped array, cut into sequences that any rank can pick by number."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]


def write_tokens(path: Path, texts: Iterable[str], tokenizer: Any) -> int:
    """Tokenize texts into one array with an end token after each; return how many tokens there are.

    The file appears complete or not at all: ranks of another machine may look for it at the same time.
    """
    partial = path.with_name(f".{path.name}-{os.getpid()}")
    count = 0
    with partial.open("wb") as file:
        for texts_of_batch in _batches(texts, 512):
            for ids in tokenizer(texts_of_batch, add_special_tokens=False)["input_ids"]:
                np.asarray([*ids, tokenizer.eos_token_id], dtype=np.uint32).tofile(file)
                count += len(ids) + 1
    partial.replace(path)
    return count


@dataclass(frozen=True)
class TokenStore:
    """Packed sequences of `sequence_length` tokens; what is left over at the end is not used."""

    path: Path
    sequence_length: int
    tokens: npt.NDArray[np.uint32] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # An empty file cannot be mapped.
        empty = self.path.stat().st_size == 0
        array = np.empty(0, dtype=np.uint32) if empty else np.memmap(self.path, dtype=np.uint32, mode="r")
        object.__setattr__(self, "tokens", array)

    def __len__(self) -> int:
        return len(self.tokens) // self.sequence_length

    def sequences(self, numbers: Iterable[int]) -> Tokens:
        """Return the sequences of these numbers, shape (len(numbers), sequence_length)."""
        length = self.sequence_length
        return np.stack([self.tokens[number * length : (number + 1) * length] for number in numbers]).astype(np.int64)


def numbers_at(position: int, count: int, available: int, seed: int) -> list[int]:
    """Return which sequences stand at `position` … `position + count` of an endless, shuffled pass over them.

    Every epoch has an order of its own that follows from the seed alone: a resumed run sees what an unbroken one would.
    """
    places = (divmod(place, available) for place in range(position, position + count))
    return [int(_epoch_order(seed, epoch, available)[place]) for epoch, place in places]


def spread_numbers(available: int, limit: int) -> list[int]:
    """Return up to `limit` sequence numbers, evenly over all: the same ones at every validation."""
    count = min(available, limit)
    return [index * available // count for index in range(count)]


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, available: int) -> Tokens:
    return np.random.default_rng([seed, epoch]).permutation(available)


def _batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    # itertools.batched came with Python 3.12.
    remaining = iter(texts)
    while batch := list(islice(remaining, size)):
        yield batch
