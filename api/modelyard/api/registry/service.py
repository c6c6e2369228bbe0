"""Uploads: written to a temporary folder, checked row by row, then stored and registered."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

from modelyard.api.dependencies import Platform
from modelyard.domain.registry.repository import Made, register
from modelyard.domain.registry.tables import Registered
from modelyard.domain.registry.uploads import check_upload, format_of
from modelyard.kit.identifiers import new_id
from modelyard.kit.storage import MANIFEST


def store_upload(platform: Platform, project_id: str, name: str, filename: str, content: BinaryIO) -> Registered:
    """Register an uploaded file as a dataset. Raises `MalformedDataset` naming file, line and why; nothing stays then."""
    format_ = format_of(filename)
    with tempfile.TemporaryDirectory(dir=platform.settings.folder("cache")) as scratch:
        folder = Path(scratch)
        path = folder / f"data.{format_}"
        with path.open("wb") as target:
            shutil.copyfileobj(content, target)
        facts = check_upload(path, format_, filename)
        described = {"format": format_, **facts}  # not the file's name: the same content is the same version
        (folder / "dataset.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
        key = f"dataset/upload-{new_id('up')}"
        manifest = platform.store.put(folder, key)
    details = {"role": "upload", "filename": Path(filename).name, **described}
    made = Made("dataset", name, key, manifest["sha256"], manifest["bytes"], details)
    try:
        with platform.database.write() as session:
            row = register(session, project_id, made)
    except Exception:
        platform.store.delete(key)
        raise
    if row.artifact_key != key:  # the same content was there already
        platform.store.delete(key)
    return row


def list_files(platform: Platform, row: Registered) -> dict[str, dict[str, Any]]:
    """Name -> size and digest of every file of an artifact, by its manifest; empty if the store has lost it."""
    try:
        manifest = json.loads(platform.store.read_text(row.artifact_key, MANIFEST))
    except (OSError, ValueError):
        return {}
    files: dict[str, dict[str, Any]] = manifest["files"]
    return files
