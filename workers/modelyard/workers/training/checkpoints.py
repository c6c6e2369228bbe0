"""What every training checkpoint holds beside DeepSpeed's state: where the run stood, and how many ranks wrote it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from modelyard.kit.storage import verify_manifest
from modelyard.workers.recipe import BadData, Run

PROGRESS_FILE = "progress.json"
ENGINE_STATE = "state"
"""Folder of DeepSpeed's part inside a checkpoint."""


@dataclass
class Progress:
    """Where a run stands: all that a loop remembers between steps."""

    step: int = 0
    """Optimizer steps done."""
    first_validation_loss: float | None = None
    last_validation_loss: float | None = None
    first_validation: dict[str, float] = field(default_factory=dict)
    """All metrics of the first validation, the loss among them."""
    last_validation: dict[str, float] = field(default_factory=dict)
    world_size: int = 1


def write_progress(folder: Path, progress: Progress) -> None:
    """Put the progress beside the state it belongs to."""
    (folder / PROGRESS_FILE).write_text(json.dumps(asdict(progress)), encoding="utf-8")


def read_progress(run: Run[Any]) -> Progress:
    """Return where the run resumes; a fresh start without `run.resume_from`. Called before the ranks join.

    Raises `DamagedArtifact` if the checkpoint is not what was written, `BadData` if other ranks wrote it.
    """
    if run.resume_from is None:
        return Progress(world_size=run.world_size)
    if run.local_rank == 0:
        # DeepSpeed's files are pickles, read only if they are the ones we wrote. No rank reads them before the first
        # of each machine has joined, so one look there is enough.
        verify_manifest(run.resume_from)
    progress = Progress(**json.loads((run.resume_from / PROGRESS_FILE).read_text(encoding="utf-8")))
    if progress.world_size != run.world_size:
        raise BadData(
            f"the checkpoint was written by {progress.world_size} ranks and cannot be continued by {run.world_size}; "
            f"give the job {progress.world_size} slots, or start it anew"
        )
    return progress
