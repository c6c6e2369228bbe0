"""Moving held jobs on, and giving pipelines their final state."""

from collections.abc import Mapping
from typing import Any

from sqlmodel import Session

from modelyard.domain.errors import InvalidRequest, UnknownReference
from modelyard.domain.jobs.admission import Verdict, admit
from modelyard.domain.jobs.allowances import Allowances
from modelyard.domain.jobs.fingerprints import fingerprint_of
from modelyard.domain.jobs.lifecycle import JobState, Outcome
from modelyard.domain.jobs.ownership import change
from modelyard.domain.jobs.tables import Job
from modelyard.domain.pipelines.lifecycle import pipeline_state
from modelyard.domain.pipelines.repository import Held, list_steps, list_steps_before, lock_pipeline
from modelyard.domain.pipelines.reuse import find_earlier, take_over
from modelyard.domain.specs import parse_spec
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
        job.reason, job.message, job.inputs = verdict.reason, verdict.message, inputs or job.inputs
        session.add(job)
    elif verdict.state is JobState.FAILED:
        values = {"reason": verdict.reason, "message": verdict.message, "finished_at": database_now()}
        change(session, job, JobState.FAILED, {"reason": verdict.reason}, **values)
    else:
        _let_go(session, job, inputs)
    return job


def _let_go(session: Session, job: Job, inputs: dict[str, dict[str, Any]]) -> None:
    fingerprint = None
    if job.resume_from is None:  # else more than spec and inputs determines what it makes
        fingerprint = fingerprint_of(parse_spec(job.spec), inputs, job.slots * job.nodes)
    earlier = find_earlier(session, job, fingerprint)
    if earlier is not None:
        take_over(session, job, earlier, inputs=inputs, fingerprint=fingerprint)
        return
    verdict = Allowances(session).admit(job.project_id, job.slots * job.nodes)
    if verdict.state is JobState.QUEUED:
        change(session, job, JobState.QUEUED, inputs=inputs, fingerprint=fingerprint, reason=None, message=None)
    else:  # from now on it is looked at together with the other jobs of its project
        job.reason, job.message, job.inputs, job.fingerprint = verdict.reason, verdict.message, inputs, fingerprint
        session.add(job)


def _judge(session: Session, job: Job, steps: Mapping[str, Job]) -> tuple[Verdict, dict[str, dict[str, Any]]]:
    try:
        return admit(session, job, steps)
    except UnknownReference as error:
        return Verdict(JobState.FAILED, str(Outcome.DEPENDENCY_FAILED), str(error)), {}
    except InvalidRequest as error:  # what earlier steps made does not fit this one
        return Verdict(JobState.FAILED, str(Outcome.BAD_DATA), str(error)), {}


def settle(session: Session, pipeline_id: str) -> None:
    """Give a pipeline its final state once every step has one."""
    pipeline = lock_pipeline(session, pipeline_id)  # a step may be tried again at this moment, and then the pipeline goes on
    state = pipeline_state(list_steps(session, pipeline_id))
    if pipeline.state == "running" and state != "running":
        pipeline.state = state
        pipeline.finished_at = read_clock(session)
        session.add(pipeline)
