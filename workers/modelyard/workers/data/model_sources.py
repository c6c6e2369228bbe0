"""Find the weights an import job names, as files on this machine. Pickled weights are never touched: they run code."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from modelyard.domain.specs.data import ModelSource
from modelyard.workers.data.packages import find_package_files
from modelyard.workers.recipe import BadData

FULL_COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "tokenizer.model", "*.jinja", "merges.txt", "vocab.txt"]
"""What is fetched from a hub: weights as safetensors, configuration, tokenizer. No code, no pickles."""


@dataclass(frozen=True)
class Weights:
    """A folder transformers can load from, and the GGUF file in it if the weights are one."""

    folder: Path
    gguf_file: str | None
    origin: str
    """Where they came from, in words that mean the same on every machine."""


def find_weights(source: ModelSource, import_dir: str | None) -> Weights:
    """Return the weights a spec names, fetched if need be. Raises `BadData` with the way out."""
    if source.package is not None:
        return _from_package(source.package, source.file or "")
    if source.hub is not None:
        return _from_hub(source.hub, source.revision or "")
    return _from_path(source.path or "", import_dir)


def _from_package(package: str, file: str) -> Weights:
    matches = find_package_files(package, file)
    if len(matches) != 1:
        raise BadData(f"{file!r} matches {len(matches)} files of {package}; name one")
    name, path = matches[0]
    return _weights_at(path, f"package {package}, file {name}")


def _from_hub(repository: str, revision: str) -> Weights:
    if not FULL_COMMIT.fullmatch(revision):
        raise BadData(f"revision {revision!r} of {repository} is no full commit id (40 hexadecimal digits); branches move")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=HUB_FILES))
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
        raise BadData(f"the hub has no {repository} at {revision}, or it needs a token (HF_TOKEN): {error}") from error
    return _weights_at(folder, f"hub {repository} at {revision}")


def _from_path(path: str, import_dir: str | None) -> Weights:
    if not import_dir:
        raise BadData(f"cannot import the folder {path!r}: the server allows none; set MODELYARD_IMPORT_DIR")
    root = Path(import_dir).resolve()
    # Resolving first also catches symbolic links that lead out.
    place = (root / path).resolve()
    if not place.is_relative_to(root):
        raise BadData(f"{path!r} leads out of the import folder; give a path inside MODELYARD_IMPORT_DIR")
    if not place.exists():
        raise BadData(f"{path!r} does not exist in the import folder; copy the model there first")
    return _weights_at(place, f"import folder, {place.relative_to(root).as_posix()}")


def _weights_at(place: Path, origin: str) -> Weights:
    if place.suffix == ".gguf":
        return Weights(place.parent, place.name, origin)
    folder = place if place.is_dir() else place.parent
    if place.is_file() and place.suffix != ".safetensors":
        raise BadData(f"{origin}: only .safetensors and .gguf weights are imported; pickled weights can run code")
    names = sorted(os.listdir(folder))
    if not any(name.endswith(".safetensors") for name in names):
        ggufs = [name for name in names if name.endswith(".gguf")]
        if len(ggufs) == 1:
            return Weights(folder, ggufs[0], origin)
        raise BadData(
            f"{origin}: no .safetensors among {', '.join(names[:8]) or 'no files'}; convert pickled weights "
            "(.bin, .pt) where you trust them, or name one .gguf file"
        )
    if "config.json" not in names:
        raise BadData(f"{origin}: no config.json beside the weights, so the architecture is unknown")
    return Weights(folder, None, origin)
