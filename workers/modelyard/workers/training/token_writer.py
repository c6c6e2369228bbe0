"""Token ids of a corpus on disk: shards of bounded size, and an index of where documents end.

A folder holds `00000.bin`, `00001.bin`, … (raw ids), `ends.bin` (int64: where each document ends, its end token included)
and `index.json`. It appears complete or not at all: ranks of other machines and other jobs look for it at the same time.
"""

import json
import os
import shutil
from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

INDEX = "index.json"
ENDS = "ends.bin"
SHARD_TOKENS = 2**27
"""256 MB of two-byte ids."""
DOCUMENTS_PER_BATCH = 512


def write_tokens(folder: Path, texts: Iterable[str], tokenizer: Any) -> None:
    """Tokenize texts into `folder` with an end token after each; memory stays bounded. Returns at once if they are there."""
    if (folder / INDEX).exists():
        return
    partial = folder.with_name(f".{folder.name}-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    writer = _Writer(partial, dtype_for(len(tokenizer)))
    encode = tokenizer.backend_tokenizer.encode_batch_fast
    with (partial / ENDS).open("wb") as ends:
        for batch in _batches(texts, DOCUMENTS_PER_BATCH):
            written = [writer.write([*found.ids, tokenizer.eos_token_id]) for found in encode(batch, add_special_tokens=False)]
            array("q", written).tofile(ends)
    writer.close()
    # Whoever was first wins; both wrote the same.
    with suppress(OSError):
        partial.rename(folder)
    shutil.rmtree(partial, ignore_errors=True)


def dtype_for(vocabulary_size: int) -> str:
    """The smallest type that holds every id."""
    return "uint16" if vocabulary_size <= 2**16 else "uint32"


class _Writer:
    """Appends ids to shards, a new one whenever the last is full."""

    def __init__(self, folder: Path, dtype: str) -> None:
        self._folder, self._dtype = folder, dtype
        self._count, self._shards = 0, 0
        self._file: BinaryIO | None = None

    def write(self, ids: list[int]) -> int:
        """Append one document; return how many tokens there are now. A document may span shards."""
        tokens = np.asarray(ids, dtype=self._dtype)
        while len(tokens):
            room = SHARD_TOKENS - self._count % SHARD_TOKENS
            self._open().write(tokens[:room].tobytes())
            self._count += len(tokens[:room])
            tokens = tokens[room:]
        return self._count

    def _open(self) -> BinaryIO:
        if self._file is None or self._count == self._shards * SHARD_TOKENS:
            if self._file is not None:
                self._file.close()
            self._file = (self._folder / f"{self._shards:05d}.bin").open("wb")
            self._shards += 1
        return self._file

    def close(self) -> None:
        """Write the index, last of all."""
        if self._file is not None:
            self._file.close()
        index = {"dtype": self._dtype, "tokens": self._count, "shards": self._shards, "shard_tokens": SHARD_TOKENS}
        (self._folder / INDEX).write_text(json.dumps(index) + "\n", encoding="utf-8")


def _batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    # itertools.batched came with Python 3.12.
    remaining = iter(texts)
    while batch := list(islice(remaining, size)):
        yield batch
