"""Routes of checkpoints."""

from dataclasses import replace

from fastapi import APIRouter

from modelyard.api.checkpoints.schemas import CheckpointPublic, VerificationPublic
from modelyard.api.dependencies import PlatformDep, Reader, Writer
from modelyard.domain.jobs import checkpoints
from modelyard.domain.jobs.parts import part_keys
from modelyard.domain.jobs.repository import get_job_or_raise
from modelyard.domain.jobs.tables import Checkpoint
from modelyard.kit.inspection import Damage, find_damage
from modelyard.kit.storage import ArtifactStore

router = APIRouter(prefix="/v1/checkpoints", tags=["checkpoints"])


@router.get("/{checkpoint_id}")
def get_checkpoint(checkpoint_id: str, platform: PlatformDep, caller: Reader) -> CheckpointPublic:
    """One checkpoint, and how it stands among those of its job."""
    with platform.database.read() as session:
        return CheckpointPublic.of(checkpoints.get_view_or_raise(session, caller.project_id, checkpoint_id))


@router.post("/{checkpoint_id}/verify")
def verify_checkpoint(checkpoint_id: str, platform: PlatformDep, caller: Writer) -> VerificationPublic:
    """Digest every stored byte of a checkpoint. Answers when all are read, about a CPU-second per gigabyte."""
    with platform.database.read() as session:
        checkpoint, job = checkpoints.get_checkpoint_or_raise(session, caller.project_id, checkpoint_id)
    # A checkpoint may be large and the store far away: no transaction stays open meanwhile.
    damaged = _inspect(platform.store, checkpoint, job.nodes)
    with platform.database.write() as session:
        # Raises where somebody removed it meanwhile: then missing files say nothing.
        checkpoint, _ = checkpoints.get_checkpoint_or_raise(session, caller.project_id, checkpoint_id)
        checkpoints.note_look(session, checkpoint, _describe(damaged))
    with platform.database.read() as session:
        view = checkpoints.get_view_or_raise(session, caller.project_id, checkpoint_id)
    return VerificationPublic.of(view, damaged)


@router.delete("/{checkpoint_id}", status_code=204)
def delete_checkpoint(checkpoint_id: str, platform: PlatformDep, caller: Writer) -> None:
    """Remove a checkpoint; its files go within about a minute. 409 while a job needs it to go on, or begins at it."""
    with platform.database.write() as session:
        checkpoint, job = checkpoints.get_checkpoint_or_raise(session, caller.project_id, checkpoint_id)
        job = get_job_or_raise(session, caller.project_id, job.id, for_update=True)
        checkpoints.remove(session, checkpoint, job)


def _inspect(store: ArtifactStore, checkpoint: Checkpoint, nodes: int) -> list[Damage]:
    first, *others = part_keys(checkpoint.artifact_key, nodes)
    damaged = find_damage(store, first, checkpoint.sha256)
    for node, key in enumerate(others, start=1):
        damaged += [replace(each, file=f"{node}/{each.file}") for each in find_damage(store, key)]
    return damaged


def _describe(damaged: list[Damage]) -> str | None:
    if not damaged:
        return None
    first = damaged[0]
    what = "is missing" if first.actual is None else f"has the SHA-256 {first.actual}, and {first.expected} was written"
    return f"{first.file} {what}" + (f"; {len(damaged) - 1} more files are not whole" if len(damaged) > 1 else "")
