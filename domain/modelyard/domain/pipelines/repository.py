"""Every query about pipelines and their steps. A step that was tried again counts by its newest job everywhere."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import load_only
from sqlmodel import Session, col, select

from modelyard.domain.errors import NotFound
from modelyard.domain.jobs.lifecycle import HeldReason
from modelyard.domain.jobs.tables import HELD, Job
from modelyard.domain.pipelines.lifecycle import newest_of_steps, pipeline_state
from modelyard.domain.pipelines.tables import Pipeline

LOOKED_AT = frozenset(HeldReason) - {HeldReason.QUOTA, HeldReason.START_TIME}
"""Reasons that are judged again at every look."""


def get_pipeline_or_raise(session: Session, project_id: str, pipeline_id: str) -> Pipeline:
    """A pipeline of a project. Raises `NotFound`."""
    pipeline = session.get(Pipeline, pipeline_id)
    if pipeline is None or pipeline.project_id != project_id:
        message = f"There is no pipeline {pipeline_id} in this project; GET /v1/pipelines lists them"
        raise NotFound(message, field="pipeline_id", value=pipeline_id)
    return pipeline


def lock_pipeline(session: Session, pipeline_id: str) -> Pipeline:
    """A pipeline, locked before any of its jobs: nobody settles it or tries steps again before this transaction ends."""
    pipeline: Pipeline = session.exec(_locked(select(Pipeline).where(Pipeline.id == pipeline_id))).one()
    return pipeline


def list_pipelines(session: Session, project_id: str, after: str | None = None, limit: int = 20) -> Sequence[Pipeline]:
    """Newest first; `after` is the id of the last row of the page before."""
    query = select(Pipeline).where(Pipeline.project_id == project_id)
    if after:
        query = query.where(Pipeline.id < after)
    return session.exec(query.order_by(col(Pipeline.id).desc()).limit(limit)).all()


def list_jobs_of(session: Session, pipeline_id: str, for_update: bool = False) -> Sequence[Job]:
    """Every job of a pipeline, also those that were tried again, oldest first; `for_update` when they are about to be changed."""
    query = select(Job).where(Job.pipeline_id == pipeline_id).order_by(col(Job.id))
    jobs: Sequence[Job] = session.exec(_locked(query) if for_update else query).all()
    return jobs


def _locked(query: Any) -> Any:
    # Read anew: what the session holds already may be older than the lock.
    return query.with_for_update().execution_options(populate_existing=True)


def list_steps(session: Session, pipeline_id: str, for_update: bool = False) -> Sequence[Job]:
    """The newest job of each step, each after those it depends on."""
    return newest_of_steps(list_jobs_of(session, pipeline_id, for_update))


def list_steps_before(session: Session, job: Job) -> dict[str, Job]:
    """The steps a job depends on; every step its spec refers to is among them."""
    if not job.pipeline_id or not job.depends_on:
        return {}
    query = select(Job).where(Job.pipeline_id == job.pipeline_id, col(Job.step).in_(job.depends_on)).order_by(col(Job.id))
    return {str(step.step): step for step in newest_of_steps(session.exec(query).all())}


@dataclass(frozen=True)
class Held:
    """A job that waits for something other than a worker, among the steps of its pipeline (shared with its siblings)."""

    job: Job
    steps: dict[str, Job]


def list_held(session: Session) -> Sequence[Held]:
    """Every held job that may go on by what else happens, each after those it depends on. Two queries, however many pipelines.

    Not those held for a quota or a start time: there may be very many of them, and they are looked for when their turn comes.
    """
    waits = (HELD, col(Job.reason).in_(LOOKED_AT))
    held = session.exec(select(Job).where(*waits).order_by(col(Job.id))).all()
    pipelines = select(Job.pipeline_id).where(*waits, col(Job.pipeline_id).is_not(None))
    jobs = session.exec(select(Job).where(col(Job.pipeline_id).in_(pipelines))).all()
    steps: dict[str | None, dict[str, Job]] = {None: {}}
    for pipeline_id, part in _by_pipeline(jobs).items():
        steps[pipeline_id] = {str(step.step): step for step in newest_of_steps(part)}
    # Left out is one that moved on between the two queries, with all of its pipeline.
    return [Held(job, steps[job.pipeline_id]) for job in held if job.pipeline_id in steps]


def list_unsettled(session: Session) -> Sequence[str]:
    """Ids of pipelines whose steps are all over while their own state does not say so."""
    running = session.exec(select(Pipeline.id).where(Pipeline.state == "running")).all()
    query = select(Job).where(col(Job.pipeline_id).in_(select(Pipeline.id).where(Pipeline.state == "running")))
    parts = _by_pipeline(session.exec(query.options(load_only(*_TELLING))))
    return [id_ for id_ in running if pipeline_state(newest_of_steps(parts[id_])) != "running"]


_TELLING: Any = (Job.pipeline_id, Job.retry_of, Job.kind, Job.state, Job.ready_at)
"""All that `newest_of_steps` and `pipeline_state` look at."""


def _by_pipeline(jobs: Iterable[Job]) -> dict[str | None, list[Job]]:
    parts: defaultdict[str | None, list[Job]] = defaultdict(list)
    for job in jobs:
        parts[job.pipeline_id].append(job)
    return parts
