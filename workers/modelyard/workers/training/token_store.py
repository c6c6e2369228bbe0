"""Token ids of a corpus, memory-mapped, cut into sequences that any rank can pick by number."""

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelyard.workers.training.token_writer import ENDS, INDEX

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenStore:
    """Sequences of `sequence_length` tokens, cut from all documents laid end to end; the rest at the end is not used."""

    folder: Path
    sequence_length: int

    @cached_property
    def index(self) -> dict[str, Any]:
        """What `index.json` says."""
        found: dict[str, Any] = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))
        return found

    @property
    def token_count(self) -> int:
        """All tokens, the rest at the end included."""
        return int(self.index["tokens"])

    @property
    def document_count(self) -> int:
        """How many documents there are."""
        return len(self._ends)

    def __len__(self) -> int:
        # The last token of a sequence is asked for the first of the next, so one token more is needed.
        return max(0, self.token_count - 1) // self.sequence_length

    def tokens(self, start: int, stop: int) -> Tokens:
        """Return the tokens of a range, across shards."""
        size = int(self.index["shard_tokens"])
        parts = [
            self._shards[shard][max(start - shard * size, 0) : stop - shard * size]
            for shard in range(start // size, (stop - 1) // size + 1)
        ]
        return np.concatenate(parts, dtype=np.int64)

    def sequence(self, number: int) -> tuple[Tokens, Tokens]:
        """Return a sequence with the token after it (sequence_length + 1), and where inside documents end: 0 < end ≤ length."""
        start = number * self.sequence_length
        first, last = np.searchsorted(self._ends, [start + 1, start + self.sequence_length + 1])
        return self.tokens(start, start + self.sequence_length + 1), self._ends[first:last] - start

    def count_cut(self) -> int:
        """How many documents do not lie within one sequence."""
        ends = self._ends.astype(np.int64)
        starts = np.concatenate(([0], ends[:-1]))
        return int(np.sum(starts // self.sequence_length != (ends - 1) // self.sequence_length))

    @cached_property
    def _shards(self) -> list[npt.NDArray[Any]]:
        paths = [self.folder / f"{shard:05d}.bin" for shard in range(int(self.index["shards"]))]
        return [np.memmap(path, dtype=self.index["dtype"], mode="r") for path in paths]

    @cached_property
    def _ends(self) -> Tokens:
        path = self.folder / ENDS
        # An empty file cannot be mapped.
        return np.memmap(path, dtype=np.int64, mode="r") if path.stat().st_size else np.empty(0, dtype=np.int64)


def numbers_at(position: int, count: int, available: int, seed: int) -> list[int]:
    """Return which sequences stand at `position` … `position + count` of an endless, shuffled pass over them.

    Every epoch has an order of its own that follows from the seed alone: a resumed run sees what an unbroken one would, and
    so does one on another number of ranks.
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
