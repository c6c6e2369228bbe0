"""Where the tokens of a dataset are kept: once per dataset and tokenizer, shared by the jobs of a machine."""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from modelyard.kit.storage import MANIFEST

CACHE = "MODELYARD_CACHE_DIR"
"""Environment variable: folder below the platform's data directory for what can be made again."""
UNUSED_SECONDS = 14 * 86400.0
"""Tokens nobody asked for so long are removed."""
USED = "used"


def find_token_folder(run_folder: Path, dataset: Path, tokenizer: Any) -> Path:
    """Return the folder for the tokens of this dataset by this tokenizer: in the cache, if there is one, else in the run's."""
    cache = os.environ.get(CACHE)
    folder = (Path(cache) / "tokens" if cache else run_folder / "tokens") / _key(dataset, tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / USED).touch()
    if cache:
        _remove_unused(folder.parent)
    return folder


def _key(dataset: Path, tokenizer: Any) -> str:
    parts = [_content(dataset), tokenizer.backend_tokenizer.to_str(), str(tokenizer.eos_token_id)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _content(dataset: Path) -> str:
    """What identifies a dataset: the checksums of its manifest, or of its files where it has none."""
    manifest = dataset / MANIFEST
    if manifest.exists():
        return json.dumps(json.loads(manifest.read_text(encoding="utf-8"))["files"], sort_keys=True)
    digests = []
    for path in sorted(dataset.glob("*.jsonl")):
        with path.open("rb") as file:
            digests.append(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}")
    return "\n".join(digests)


def _remove_unused(folder: Path) -> None:
    for other in folder.iterdir():
        try:
            is_unused = time.time() - (other / USED).stat().st_mtime > UNUSED_SECONDS
        except OSError:
            continue  # removed by another job, or in the making
        if is_unused:
            shutil.rmtree(other, ignore_errors=True)
