"""Taking over what an earlier job made from the same spec and the same inputs, instead of making it again."""

from typing import Any

from sqlmodel import Session

from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.ownership import add_event, change
from modelyard.domain.jobs.repository import list_with_fingerprint
from modelyard.domain.jobs.tables import Job
from modelyard.domain.pipelines.tables import Pipeline
from modelyard.domain.registry.tables import TABLES
from modelyard.kit.database import database_now


def find_earlier(session: Session, job: Job, fingerprint: str | None) -> Job | None:
    """The newest job whose outputs a step may take over: its pipeline asks for it, and all of them are still there."""
    pipeline = session.get(Pipeline, job.pipeline_id) if job.pipeline_id else None
    if pipeline is None or not pipeline.reuse or fingerprint is None:
        return None
    candidates = list_with_fingerprint(session, job.project_id, fingerprint)
    return next((earlier for earlier in candidates if _is_whole(session, earlier)), None)


def take_over(session: Session, job: Job, earlier: Job, **values: Any) -> None:
    """Let a step succeed at once, with the outputs and figures of an earlier job."""
    ran = earlier.reused_from or earlier.id
    change(
        session,
        job,
        JobState.SUCCEEDED,
        {"reused_from": ran},
        **values,
        reused_from=ran,
        outputs=earlier.outputs,
        figures=earlier.figures,
        progress=1.0,
        reason=None,
        message=f"Took over the outputs of {ran}: its spec and the content of its inputs are the same",
        finished_at=database_now(),
    )
    add_event(session, job.id, job.attempt, "reused", {"job_id": ran})


def _is_whole(session: Session, earlier: Job) -> bool:
    outputs = earlier.outputs.values()
    return bool(outputs) and all(session.get(TABLES[output["type"]], output["id"]) is not None for output in outputs)
