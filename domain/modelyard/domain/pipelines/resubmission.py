"""Trying the failed part of a pipeline again: a new job in the place of each step that did not succeed, the others untouched."""

from collections.abc import Sequence

from sqlmodel import Session

from modelyard.domain.errors import Conflict
from modelyard.domain.jobs.admission import check_dependencies
from modelyard.domain.jobs.lifecycle import JobState, Outcome
from modelyard.domain.jobs.repository import get_job_or_raise
from modelyard.domain.jobs.resubmission import RETRIABLE, NotRetriable, RetryChanges, check_retriable, request_again, retry
from modelyard.domain.jobs.submission import Place, submit
from modelyard.domain.jobs.tables import Job
from modelyard.domain.pipelines.advancement import advance
from modelyard.domain.pipelines.repository import list_steps, lock_pipeline
from modelyard.domain.pipelines.tables import Pipeline


class NothingToRetry(Conflict):
    """No step of the pipeline ended without success."""

    code = "nothing_to_retry"

    def __init__(self, pipeline: Pipeline) -> None:
        way_out = "wait for it, or cancel it first" if pipeline.state == "running" else "to do it once more, submit it again"
        super().__init__(
            f"Pipeline {pipeline.id} is {pipeline.state} and no step of it failed or was cancelled; {way_out}",
            field="pipeline_id",
            value=pipeline.id,
        )


def retry_job(session: Session, project_id: str, job_id: str, changes: RetryChanges) -> Job:
    """Try a job again, alone or in the place of its step. Raises `NotFound` or `NotRetriable`."""
    job = get_job_or_raise(session, project_id, job_id)
    if job.pipeline_id is not None:
        return retry_step(session, job, changes)
    return retry(session, get_job_or_raise(session, project_id, job_id, for_update=True), changes)


def retry_pipeline(session: Session, pipeline_id: str) -> list[Job]:
    """Make every step anew that failed, was cancelled or quarantined. Raises `NothingToRetry`."""
    pipeline = lock_pipeline(session, pipeline_id)
    wanted = [step for step in list_steps(session, pipeline_id, for_update=True) if step.state in RETRIABLE]
    if not wanted:
        raise NothingToRetry(pipeline)
    return _make_anew(session, pipeline, wanted, RetryChanges())


def retry_step(session: Session, job: Job, changes: RetryChanges) -> Job:
    """Make one step anew, and those behind it that failed because of it. Raises `NotRetriable`."""
    assert job.pipeline_id is not None
    pipeline = lock_pipeline(session, job.pipeline_id)
    steps = list_steps(session, pipeline.id, for_update=True)
    newest = {str(step.step): step for step in steps}
    check_retriable(job)
    if newest[str(job.step)].id != job.id:
        raise NotRetriable(job, f"was replaced by {newest[str(job.step)].id}; retry that one if it does not succeed either")
    before = check_dependencies(job.depends_on, newest)
    if before.state is JobState.FAILED:
        raise NotRetriable(
            job, f"depends on what failed: {before.message}. POST /v1/pipelines/{pipeline.id}/retry tries all again"
        )
    behind = [step for step in find_behind(str(job.step), steps) if step.reason == Outcome.DEPENDENCY_FAILED]
    return _make_anew(session, pipeline, [job, *behind], changes)[0]


def find_behind(name: str, steps: Sequence[Job]) -> list[Job]:
    """The steps that depend on a step, directly or not, each after those it depends on. Pure."""
    reached = {name}
    behind = []
    for step in steps:
        if reached & set(step.depends_on):
            reached.add(str(step.step))
            behind.append(step)
    return behind


def _make_anew(session: Session, pipeline: Pipeline, steps: Sequence[Job], changes: RetryChanges) -> list[Job]:
    made = []
    for step in steps:
        place = Place(pipeline.id, str(step.step), step.depends_on, pipeline.reuse)
        made.append(submit(session, pipeline.project_id, request_again(step, changes), place))
    pipeline.state, pipeline.finished_at = "running", None
    session.add(pipeline)
    for job in made:
        advance(session, job.id)
    return made
