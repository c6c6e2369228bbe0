"""What an attempt made: checkpoints while it runs, outputs when it succeeds. Stored first, recorded after, by its owner only."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlmodel import Session

from modelyard.domain.jobs.recording import add_checkpoint
from modelyard.domain.jobs.repository import list_checkpoints
from modelyard.domain.jobs.tables import Job
from modelyard.domain.registry.repository import Made, register
from modelyard.kit.database import Database
from modelyard.kit.faults import fault
from modelyard.kit.storage import ArtifactStore

KEPT_CHECKPOINTS = 2
"""The newest, and one more in case it turns out damaged."""


def store_outputs(store: ArtifactStore, job: Job, folder: Path, events: Sequence[dict[str, Any]]) -> dict[str, Made]:
    """Put every finished output folder into the store. Nothing refers to them until `register_outputs`."""
    made = {}
    for event in events:
        key = f"{event['output_type']}/{job.id}-{job.attempt}-{event['name']}"
        manifest = store.put(folder / event["path"], key)
        details = dict(event["metadata"])
        name = str(details.pop("name", None) or job.name)
        made[event["name"]] = Made(event["output_type"], name, key, manifest["sha256"], manifest["bytes"], details)
    return made


def register_outputs(session: Session, job: Job, made: dict[str, Made]) -> dict[str, dict[str, Any]]:
    """Record stored outputs, in the transaction that finishes the job. Returns the job's `outputs`."""
    outputs = {}
    for name, thing in made.items():
        row = register(session, job.project_id, thing, job.id, job.attempt)
        outputs[name] = {"type": thing.type, "id": row.id, "name": row.name, "version": row.version}
    return outputs


def keep_checkpoint(database: Database, store: ArtifactStore, job: Job, folder: Path, event: dict[str, Any]) -> None:
    """Store a checkpoint, record it, and let go of the oldest. Raises `StaleAttempt` if the job has another owner."""
    key = f"checkpoints/{job.id}/{job.attempt}-{event['step']:08d}"
    manifest = store.put(folder / event["path"], key)
    fault("checkpoint_after_store_before_record")
    with database.write() as session:
        add_checkpoint(session, job.id, job.attempt, event["step"], key, manifest, event.get("metrics", {}), event["at"])
        surplus = list(list_checkpoints(session, job.id))[KEPT_CHECKPOINTS:]
        for old in surplus:
            session.delete(old)
    for old in surplus:
        store.delete(old.artifact_key)
    shutil.rmtree(folder / event["path"], ignore_errors=True)
