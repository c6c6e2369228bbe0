"""Pipelines in tests: making them, looking at them as the scheduler does, and ending their steps."""

from typing import Any

from factories import Factory, request_of, write

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.tables import Job
from modelyard.domain.pipelines.advancement import advance, settle
from modelyard.domain.pipelines.repository import list_steps
from modelyard.domain.pipelines.service import StepRequest, create_pipeline


def step(kind: str, *depends_on: str, **spec: Any) -> StepRequest:
    """One step of a kind."""
    return StepRequest(request_of(kind, spec=spec), list(depends_on))


def create(factory: Factory, steps: dict[str, StepRequest]) -> dict[str, Job]:
    """Make a pipeline; return its jobs by step."""
    pipeline = write(factory.database, create_pipeline, factory.project_id, "test", steps)
    return jobs_of(factory, pipeline.id)


def jobs_of(factory: Factory, pipeline_id: str) -> dict[str, Job]:
    """The jobs of a pipeline as they are now."""
    with factory.database.read() as session:
        return {str(job.step): job for job in list_steps(session, pipeline_id)}


def look(factory: Factory, pipeline_id: str | None) -> dict[str, str]:
    """Do what the scheduler does at one look; return the states of the steps."""
    assert pipeline_id is not None
    for job in jobs_of(factory, pipeline_id).values():
        write(factory.database, advance, job.id)
    write(factory.database, settle, pipeline_id)
    return {name: job.state for name, job in jobs_of(factory, pipeline_id).items()}


def succeed(factory: Factory, job: Job, content: str = "a", **made: tuple[str, str]) -> None:
    """Run a job to its end; `made`: output name -> (type, name), all of the same content."""
    claimed = factory.claimed(job)
    rows = {name: factory.registered(type_, title, content, job_id=job.id) for name, (type_, title) in made.items()}
    outputs = {name: {"type": made[name][0], "id": row.id} for name, row in rows.items()}
    write(factory.database, finish, job.id, claimed.attempt, Outcome.SUCCEEDED, outputs=outputs, figures={"loss": 2.5})


def fail(factory: Factory, job: Job) -> None:
    """Run a job to a bad end."""
    write(factory.database, finish, factory.claimed(job).id, job.attempt + 1, Outcome.USER_CODE, "broke")
