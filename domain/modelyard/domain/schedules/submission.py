"""Submitting what a schedule keeps: a body read again each time, exactly as if a client had sent it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlmodel import Session

from modelyard.domain.errors import DomainError, InvalidRequest
from modelyard.domain.jobs.bodies import JobCreate
from modelyard.domain.jobs.submission import submit
from modelyard.domain.pipelines.bodies import PipelineCreate
from modelyard.domain.pipelines.service import create_pipeline

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """What was submitted: one of the two."""

    job_id: str | None = None
    pipeline_id: str | None = None


def submit_body(session: Session, project_id: str, job: Body | None, pipeline: Body | None) -> Run:
    """Submit a job or a pipeline as its body says. Raises what a submission raises, with fields below `job` or `pipeline`."""
    place = "job" if job is not None else "pipeline"
    try:
        if job is not None:
            return Run(job_id=submit(session, project_id, JobCreate.model_validate(job).to_request()).id)
        body = PipelineCreate.model_validate(pipeline)
        return Run(pipeline_id=create_pipeline(session, project_id, body.name, body.to_steps(), body.reuse).id)
    except ValidationError as error:
        raise _say_invalid(place, error) from error
    except DomainError as error:
        error.field = f"{place}.{error.field}" if error.field else place
        raise


def check_body(session: Session, project_id: str, job: Body | None, pipeline: Body | None) -> None:
    """Raise what submitting now would raise; nothing stays of the try."""
    trial = session.begin_nested()
    try:
        submit_body(session, project_id, job, pipeline)
    finally:
        trial.rollback()


def _say_invalid(place: str, error: ValidationError) -> InvalidRequest:
    found = error.errors()[0]
    field = ".".join([place, *(str(part) for part in found["loc"])])
    return InvalidRequest(f"{field}: {found['msg']}", field=field, value=found.get("input"))
