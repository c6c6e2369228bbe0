"""Looking at every stored byte of an artifact: is it what was written?"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from modelyard.kit.storage import MANIFEST, ArtifactStore

BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class Damage:
    """A file that is not what was written."""

    file: str
    expected: str
    """SHA-256."""
    actual: str | None
    """SHA-256; None where the file is missing or cannot be read."""


def find_damage(store: ArtifactStore, key: str, sha256: str | None = None) -> list[Damage]:
    """Digest all files of an artifact where they are stored; return those that are not what was written.

    `sha256`: the artifact's digest as it was recorded elsewhere, for a manifest may be damaged too.
    """
    return list(_find_damage(store, key, sha256))


def _find_damage(store: ArtifactStore, key: str, sha256: str | None) -> Iterator[Damage]:
    try:
        with store.open(key, MANIFEST) as file:
            files: dict[str, dict[str, Any]] = json.load(file)["files"]
        listing = "".join(f"{name}\0{entry['sha256']}\n" for name, entry in files.items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        yield Damage(MANIFEST, sha256 or "", None)
        return
    found = hashlib.sha256(listing.encode()).hexdigest()
    if sha256 is not None and found != sha256:
        yield Damage(MANIFEST, sha256, found)
    for name, entry in files.items():
        actual = _digest(store, key, name)
        if actual != entry["sha256"]:
            yield Damage(name, entry["sha256"], actual)


def _digest(store: ArtifactStore, key: str, name: str) -> str | None:
    digest = hashlib.sha256()
    try:
        with store.open(key, name) as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
    except (FileNotFoundError, IsADirectoryError):
        return None
    return digest.hexdigest()
