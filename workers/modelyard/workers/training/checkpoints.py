"""Checkpoints of the pre-training loop: DeepSpeed's state of every rank, the tokenizer, and where the loop stood."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelyard.kit.storage import verify_manifest
from modelyard.workers.recipe import BadData, Run
from modelyard.workers.training.corpus import TOKENIZER_FILE
from modelyard.workers.training.distributed import barrier

PROGRESS_FILE = "progress.json"
TAG = "state"


@dataclass
class Progress:
    """Where a run stands: all the loop remembers between steps."""

    step: int = 0
    """Optimizer steps done."""
    first_validation_loss: float | None = None
    last_validation_loss: float | None = None
    world_size: int = 1


def save_checkpoint(run: Run[Any], engine: Any, tokenizer: Any, progress: Progress, **metrics: float) -> None:
    """Write `checkpoints/step-…`, complete or absent. All ranks call this together."""
    with run.checkpoint(progress.step, **metrics) as folder:
        # Rank 0 empties the folder when it enters; nobody may write before that.
        barrier()
        engine.save_checkpoint(str(folder), tag=TAG)
        if run.rank == 0:
            (folder / TOKENIZER_FILE).write_text(tokenizer.backend_tokenizer.to_str(), encoding="utf-8")
            (folder / PROGRESS_FILE).write_text(json.dumps(asdict(progress)), encoding="utf-8")
        barrier()


def load_checkpoint(run: Run[Any], engine: Any) -> Progress:
    """Restore engine and progress from `run.resume_from`; a fresh start without one. Raises `BadData`."""
    if run.resume_from is None:
        return Progress(world_size=run.world_size)
    if run.rank == 0:
        # DeepSpeed's files are pickles: read them only if they are the ones we wrote.
        verify_manifest(run.resume_from)
    barrier()
    progress = _read_progress(run.resume_from)
    if progress.world_size != run.world_size:
        raise BadData(
            f"the checkpoint was written by {progress.world_size} ranks and cannot be continued by {run.world_size}; "
            f"give the job {progress.world_size} slots, or start it anew"
        )
    engine.load_checkpoint(str(run.resume_from), tag=TAG)
    return progress


def _read_progress(folder: Path) -> Progress:
    return Progress(**json.loads((folder / PROGRESS_FILE).read_text(encoding="utf-8")))
