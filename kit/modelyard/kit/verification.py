"""Is what a store keeps under a key what its manifest says? Looked at where it lies, without fetching it."""

import hashlib
import json
from typing import Any

from modelyard.kit.storage import MANIFEST, ArtifactStore, DamagedArtifact

BLOCK_BYTES = 2**20


def verify_stored(store: ArtifactStore, key: str, deep: bool = False) -> None:
    """Raise `DamagedArtifact` unless every file of an artifact is there with its size, and with its content where `deep`."""
    import fsspec

    filesystem, root = fsspec.core.url_to_fs(f"{store.url}/{key}")
    for name, entry in _read_manifest(filesystem, root, key).items():
        path = f"{root}/{name}"
        try:
            is_whole = filesystem.size(path) == entry["bytes"] and (not deep or _digest(filesystem, path) == entry["sha256"])
        except FileNotFoundError:
            is_whole = False
        if not is_whole:
            raise DamagedArtifact(f"{key}/{name} is missing or not what {MANIFEST} says")


def _read_manifest(filesystem: Any, root: str, key: str) -> dict[str, Any]:
    try:
        files: dict[str, Any] = json.loads(filesystem.cat_file(f"{root}/{MANIFEST}"))["files"]
    except (FileNotFoundError, ValueError, LookupError, TypeError) as error:
        raise DamagedArtifact(f"{key} has no readable {MANIFEST}: {type(error).__name__}") from error
    return files


def _digest(filesystem: Any, path: str) -> str:
    digest = hashlib.sha256()
    with filesystem.open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
