"""What an attempt made: checkpoints while it runs, outputs when it succeeds. Stored first, recorded after, by its owner only."""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlmodel import Session

from modelyard.domain.jobs.checkpoints import forget_surplus
from modelyard.domain.jobs.lifecycle import StaleAttempt
from modelyard.domain.jobs.parts import checkpoint_key, part_keys
from modelyard.domain.jobs.recording import add_checkpoint
from modelyard.domain.jobs.repository import list_checkpoints
from modelyard.domain.jobs.tables import Checkpoint, Job
from modelyard.domain.registry.repository import Made, register
from modelyard.kit.database import Database
from modelyard.kit.faults import fault
from modelyard.kit.logs import get_logger
from modelyard.kit.storage import MANIFEST, ArtifactStore
from modelyard.workers.runner.gang import Gang

PARTS_SECONDS = 0.5
"""How often the store is asked for the parts of other nodes."""
log = get_logger(__name__)


def store_outputs(store: ArtifactStore, job: Job, folder: Path, events: Sequence[dict[str, Any]]) -> dict[str, Made]:
    """Put every finished output folder into the store. Nothing refers to them until `register_outputs`. A probe keeps none."""
    if job.is_probe:
        return {}
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


def keep_checkpoint(
    database: Database, store: ArtifactStore, job: Job, folder: Path, event: dict[str, Any], gang: Gang | None = None
) -> None:
    """Store a checkpoint, record it, and let go of those not wanted any more. Raises `StaleAttempt` if the job has another owner.

    Over several nodes it is recorded once all have stored their parts; if they no longer can, what there is is removed.
    A probe keeps none.
    """
    if job.is_probe:
        return shutil.rmtree(folder / event["path"], ignore_errors=True)
    key = checkpoint_key(job.id, job.attempt, event["step"])
    manifest = store.put(folder / event["path"], key)
    if gang is not None and not _wait_for_parts(store, part_keys(key, job.nodes)[1:], gang):
        log.warning("checkpoint incomplete: a node was lost before it stored its part", job_id=job.id, step=event["step"])
        return _remove(store, key, job.nodes)
    if gang is not None:
        manifest = {**manifest, "bytes": manifest["bytes"] + _bytes_of(store, part_keys(key, job.nodes)[1:])}
    fault("checkpoint_after_store_before_record")
    try:
        surplus = _record(database, job, key, manifest, event)
    except StaleAttempt:
        _remove_unless_recorded(database, store, job, event["step"], key)
        raise
    for old in surplus:  # only now: had the transaction failed, they would be the newest there are
        _remove(store, old.artifact_key, job.nodes)
    shutil.rmtree(folder / event["path"], ignore_errors=True)
    return None


def _record(database: Database, job: Job, key: str, manifest: dict[str, Any], event: dict[str, Any]) -> list[Checkpoint]:
    """Record a stored checkpoint and forget those not wanted any more, in one transaction; return those forgotten."""
    with database.write() as session:
        add_checkpoint(session, job.id, job.attempt, event["step"], key, manifest, event.get("metrics", {}), event["at"])
        return forget_surplus(session, job)


def _remove_unless_recorded(database: Database, store: ArtifactStore, job: Job, step: int, key: str) -> None:
    """Leave no artifact that nothing names: the key is this attempt's alone, but it may have been recorded before."""
    with database.read() as session:
        if any((each.attempt, each.step) == (job.attempt, step) for each in list_checkpoints(session, job.id)):
            return
    _remove(store, key, job.nodes)


def keep_part(store: ArtifactStore, job: Job, folder: Path, node_rank: int, event: dict[str, Any]) -> None:
    """Store another node's part of a checkpoint, under a key only this attempt writes to; node 0 records the whole."""
    if not job.is_probe:
        key = part_keys(checkpoint_key(job.id, job.attempt, event["step"]), job.nodes)[node_rank]
        store.put(folder / event["path"], key)
    shutil.rmtree(folder / event["path"], ignore_errors=True)


def _wait_for_parts(store: ArtifactStore, keys: Sequence[str], gang: Gang) -> bool:
    missing = list(keys)
    while missing:
        is_last_look = gang.is_over  # asked first: what they stored before they were over must be seen
        missing = [key for key in missing if not store.exists(key)]
        if missing and is_last_look:
            return False
        if missing:
            time.sleep(PARTS_SECONDS)
    return True


def _bytes_of(store: ArtifactStore, keys: Sequence[str]) -> int:
    return sum(int(json.loads(store.read_text(key, MANIFEST))["bytes"]) for key in keys)


def _remove(store: ArtifactStore, key: str, nodes: int) -> None:
    for part in part_keys(key, nodes):
        store.delete(part)
