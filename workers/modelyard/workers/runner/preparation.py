"""What is the same for every runner, of the first node and of the others: what its recipe is told, and how its ranks start."""

import json
import os
from pathlib import Path
from typing import Any

from modelyard.domain.jobs.tables import Job
from modelyard.kit.settings import Settings
from modelyard.workers.registry import ONLINE, RECIPES
from modelyard.workers.runner.inputs import Resume
from modelyard.workers.runner.rank_environment import Launch

RESUME_FOLDER = "resume"
"""Where the parts of a checkpoint of several nodes are laid together."""


def write_document(
    folder: Path, job: Job, inputs: dict[str, dict[str, Any]], resume: Resume | None, options: dict[str, Any]
) -> None:
    """Write `run.json`: everything the recipe is told."""
    document = {
        "job_id": job.id,
        "attempt": job.attempt,
        "spec": job.spec,
        "inputs": inputs,
        "resume_from": str(resume.path) if resume else None,
        "options": {**options, "pause_at_step": job.pause_at_step},
    }
    (folder / "run.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    (folder / "run.json").chmod(0o600)


def make_launch(settings: Settings, job: Job, folder: Path, alive: int) -> Launch:
    """How the ranks of this machine start, alone as long as nothing else is said."""
    return Launch(
        module=RECIPES[job.kind],
        folder=folder,
        slots=tuple(os.environ.get("MODELYARD_SLOTS", "cpu-0").split(",")),
        descriptors=(alive, *(int(part) for part in os.environ.get("MODELYARD_SLOT_DESCRIPTORS", "").split(",") if part)),
        cache=settings.folder("cache"),
        is_online=job.kind in ONLINE,
    )
