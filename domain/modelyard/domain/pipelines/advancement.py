"""Moving held jobs on, and giving pipelines their final state."""

from collections.abc import Mapping
from typing import Any

from sqlmodel import Session

from modelyard.domain.errors import UnknownReference
from modelyard.domain.jobs.admission import Verdict, admit
from modelyard.domain.jobs.lifecycle import JobState, Outcome
from modelyard.domain.jobs.ownership import change
from modelyard.domain.jobs.tables import Job
from modelyard.domain.pipelines.lifecycle import pipeline_state
from modelyard.domain.pipelines.repository import Held, list_steps, list_steps_before
from modelyard.domain.pipelines.tables import Pipeline
from modelyard.kit.database import database_now, read_clock


def would_advance(session: Session, held: Held) -> bool:
    """Whether `advance` would change the row: nothing is locked or written to find out."""
    verdict, _ = _judge(session, held.job, held.steps)
    return verdict != Verdict(JobState.HELD, held.job.reason, held.job.message)


def advance(session: Session, job_id: str) -> Job | None:
    """Let a held job go on if it may; otherwise say what it waits for. Doing it twice, or too late, is harmless.

    Returns the job as it is now; None if it is gone.
    """
    job = session.get(Job, job_id, with_for_update=True)  # read anew: it may have been cancelled since it was listed
    if job is None or job.state != JobState.HELD:
        return job
    verdict, inputs = _judge(session, job, list_steps_before(session, job))
    if verdict.state is JobState.HELD:
        job.reason, job.message = verdict.reason, verdict.message
        session.add(job)
    elif verdict.state is JobState.FAILED:
        values = {"reason": verdict.reason, "message": verdict.message, "finished_at": database_now()}
        change(session, job, JobState.FAILED, {"reason": verdict.reason}, **values)
    else:
        change(session, job, JobState.QUEUED, inputs=inputs, reason=None, message=None)
    return job


def _judge(session: Session, job: Job, steps: Mapping[str, Job]) -> tuple[Verdict, dict[str, dict[str, Any]]]:
    try:
        return admit(session, job, steps)
    except UnknownReference as error:
        return Verdict(JobState.FAILED, str(Outcome.DEPENDENCY_FAILED), str(error)), {}


def settle(session: Session, pipeline_id: str) -> None:
    """Give a pipeline its final state once every step has one."""
    # Locked: a step may be tried again at this moment, and then the pipeline goes on.
    pipeline = session.get(Pipeline, pipeline_id, with_for_update=True)
    state = pipeline_state(list_steps(session, pipeline_id))
    if pipeline is not None and pipeline.state == "running" and state != "running":
        pipeline.state = state
        pipeline.finished_at = read_clock(session)
        session.add(pipeline)
