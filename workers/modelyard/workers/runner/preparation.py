"""What a recipe is told, and how its ranks start. A runner asks the database, unless the worker told it all it needs to know."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.domain.deployments.repository import open_deployment
from modelyard.domain.jobs.ownership import own
from modelyard.domain.jobs.repository import list_attempts, list_resumable
from modelyard.domain.jobs.tables import Job
from modelyard.kit.database import Database
from modelyard.kit.identifiers import new_secret
from modelyard.kit.settings import Settings
from modelyard.kit.storage import ArtifactStore
from modelyard.workers.engine.handover import Handover
from modelyard.workers.registry import ONLINE, RECIPES
from modelyard.workers.runner.deadline import boot_time
from modelyard.workers.runner.inputs import MissingInput, Resume, export_interactions, fetch_inputs, find_resume, locate_inputs
from modelyard.workers.runner.rank_environment import Launch
from modelyard.workers.runner.time_limit import find_time_left

RESUME_FOLDER = "resume"
"""Where the parts of a checkpoint of several nodes are laid together."""


@dataclass(frozen=True)
class Task:
    """An attempt that is ready to begin."""

    job: Job
    resume: Resume | None = None
    time_left_seconds: float | None = None
    """Of the job's time limit."""


def take_over(settings: Settings, store: ArtifactStore, folder: Path, handover: Handover) -> Task:
    """Write `run.json` from what the worker knew; nothing is to be asked or written first."""
    job = handover.job
    write_document(folder, job, fetch_inputs(store, handover.inputs, folder), None, _options(settings, job, ""))
    limit = job.time_limit_seconds  # all of it was left at the claim, as this is the first attempt
    return Task(job, time_left_seconds=None if limit is None else limit - (boot_time() - handover.claimed_at))


def prepare(settings: Settings, database: Database, store: ArtifactStore, folder: Path, job_id: str, attempt: int) -> Task:
    """Find out what to do, and write `run.json`. Raises `MissingInput`, `DamagedArtifact` or `StaleAttempt`."""
    token = new_secret("srv")
    with database.write() as session:
        job = own(session, job_id, attempt)
        located = locate_inputs(session, job.inputs)
        if job.kind == "deploy":
            open_deployment(session, job, job.spec["name"], job.inputs["model"]["id"], token)
        checkpoints = list_resumable(session, job_id)
    with database.read() as session:  # may be long; costs nothing where there is no deployment
        for entry in located.values():
            if entry["type"] == "deployment":
                export_interactions(session, entry["id"], job.spec["max_interactions"], folder / "interactions")
    resume = find_resume(checkpoints, store, folder / RESUME_FOLDER)
    if resume is not None:
        with database.write() as session:
            own(session, job_id, attempt)
            newest = list_attempts(session, job_id)[-1]
            newest.resumed_from_step, newest.resumed_from = resume.step, resume.checkpoint_id
    elif job.resume_from is not None:  # from the start it would be another training than what was asked for
        raise MissingInput(
            f"resume_from: checkpoint {job.resume_from} of job {job.resume_from_job} was removed or is damaged; submit the job "
            "again at another checkpoint"
        )
    write_document(folder, job, fetch_inputs(store, located, folder), resume, _options(settings, job, token))
    with database.read() as session:
        return Task(job, resume, find_time_left(session, job))


def _options(settings: Settings, job: Job, token: str) -> dict[str, Any]:
    if job.kind == "deploy":
        return {"token": token, "host": settings.serve_host, "port": 0, "advertise_host": settings.advertise_host}
    if job.kind == "import":
        return {"import_dir": str(settings.import_root)}
    return {}


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
        "options": {**options, "pause_at_step": job.pause_at_step, **_describe_start(job)},
    }
    (folder / "run.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    (folder / "run.json").chmod(0o600)


def _describe_start(job: Job) -> dict[str, Any]:
    if job.resume_from is None:
        return {}
    return {"begins_at": {"checkpoint": job.resume_from, "job": job.resume_from_job, "step": job.resume_from_step}}


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
