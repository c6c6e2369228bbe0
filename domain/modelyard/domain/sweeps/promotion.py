"""Giving the best trial's output the name the sweep was to find it under."""

from sqlmodel import Session

from modelyard.domain.jobs.tables import Job
from modelyard.domain.registry.repository import Made, register
from modelyard.domain.registry.tables import TABLES
from modelyard.domain.sweeps.tables import Sweep, Trial


def promote_best(session: Session, sweep: Sweep, trial: Trial) -> None:
    """Register the first output of the best trial's job as the next version of `sweep.promote`; or say why there is none.

    The new version is of the same artifact: nothing is copied.
    """
    job = session.get_one(Job, trial.job_id)
    output = next((made for made in job.outputs.values() if made["type"] in TABLES), None)
    if output is None:
        _add(sweep, f"trial {trial.number} is the best, but made nothing to promote: `modelyard retry {job.id}` finishes it")
        return
    found = session.get_one(TABLES[output["type"]], output["id"])
    details = {**found.details, "sweep": sweep.id, "trial": trial.number}
    made = Made(output["type"], str(sweep.promote), found.artifact_key, found.sha256, found.bytes, details)
    row = register(session, sweep.project_id, made, found.job_id, found.attempt)
    sweep.promoted = {"type": made.type, "id": row.id, "name": row.name, "version": row.version}


def _add(sweep: Sweep, sentence: str) -> None:
    sweep.message = f"{sweep.message}; {sentence}" if sweep.message else sentence
