"""What a job was given, as folders on this machine; and the checkpoint it continues from."""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlmodel import Session

from modelyard.domain.deployments.repository import list_interactions
from modelyard.domain.deployments.tables import Interaction
from modelyard.domain.jobs.parts import part_keys
from modelyard.domain.jobs.repository import Resumable
from modelyard.domain.jobs.tables import Checkpoint
from modelyard.domain.registry.tables import TABLES
from modelyard.kit.logs import get_logger
from modelyard.kit.storage import ArtifactStore, DamagedArtifact, merge_folders, verify_manifest

log = get_logger(__name__)


@dataclass(frozen=True)
class Resume:
    """A checkpoint that verified."""

    step: int
    path: Path
    checkpoint_id: str


class MissingInput(Exception):
    """An input, or the checkpoint to begin at, was there when the job was submitted, and is not any more."""


def locate_inputs(session: Session, given: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Look up where each input's artifact is kept: place in the spec -> `{"type", "id", "name", "version", "artifact_key"}`."""
    located = {}
    for place, pinned in given.items():
        entry = {key: pinned.get(key) for key in ("type", "id", "name")} | {"version": pinned.get("version") or 0}
        if pinned["type"] != "deployment":
            row = session.get(TABLES[pinned["type"]], pinned["id"])
            if row is None:
                raise MissingInput(f"spec.{place}: {pinned['type']} {pinned['id']} was deleted")
            entry["artifact_key"] = row.artifact_key
        located[place] = entry
    return located


def fetch_inputs(store: ArtifactStore, located: Mapping[str, Mapping[str, Any]], folder: Path) -> dict[str, dict[str, Any]]:
    """Bring inputs to this machine. Returns what `run.json` says of them, each with its local `path`."""
    return {
        place: {
            **{key: value for key, value in entry.items() if key != "artifact_key"},
            "path": str(_path_of(store, entry, folder)),
        }
        for place, entry in located.items()
    }


def _path_of(store: ArtifactStore, entry: Mapping[str, Any], folder: Path) -> Path:
    if entry["type"] == "deployment":
        return folder / "interactions"
    return store.fetch(entry["artifact_key"])


def export_interactions(session: Session, deployment_id: str, limit: int, folder: Path) -> None:
    """Write the newest requests of a deployment to `interactions.jsonl`, oldest first."""
    rows = list(list_interactions(session, deployment_id, limit=limit))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "interactions.jsonl").open("w", encoding="utf-8") as file:
        for row in reversed(rows):
            file.write(json.dumps(_as_line(row), ensure_ascii=False) + "\n")


def _as_line(row: Interaction) -> dict[str, Any]:
    line = row.model_dump(exclude={"deployment_id"})
    return {**line, "created_at": datetime.fromtimestamp(row.created_at, UTC).isoformat()}


def find_resume(found: Iterable[Resumable], store: ArtifactStore, folder: Path) -> Resume | None:
    """The first checkpoint that is whole, brought to this machine; damaged ones are passed over."""
    for each in found:
        checkpoint = each.checkpoint
        try:
            return fetch_checkpoint(checkpoint, store, each.nodes, folder)
        except (DamagedArtifact, FileNotFoundError) as error:
            log.warning("checkpoint passed over", job_id=checkpoint.job_id, step=checkpoint.step, error=str(error))
    return None


def fetch_checkpoint(checkpoint: Checkpoint, store: ArtifactStore, nodes: int, folder: Path) -> Resume:
    """Bring a checkpoint to this machine: the parts of all `nodes` that wrote it, laid together in `folder` if there are several.

    Raises `DamagedArtifact` or `FileNotFoundError` unless all of it is there and whole.
    """
    parts = [store.fetch(key) for key in part_keys(checkpoint.artifact_key, nodes)]
    for part in parts:
        verify_manifest(part)
    if nodes > 1:
        shutil.rmtree(folder, ignore_errors=True)
        merge_folders(parts, folder)
    return Resume(checkpoint.step, folder if nodes > 1 else parts[0], checkpoint.id)
