"""Runs before this one, as a prediction uses them: a few indexed queries."""

import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from sqlmodel import Session, col, select

from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.tables import Attempt, Job, MetricPoint
from modelyard.domain.planning.durations import PastRun

PAST_RUNS = 20
"""A kind's newest successes that count."""
POINTS = 200
"""Points of a curve that say how long its steps took."""
STEP_METRIC = "loss"
CountOperations = Callable[[Job, str], float | None]
"""Operations of one step of a job on an accelerator; None where there is no formula."""


def list_past_runs(session: Session, job: Job, count_operations: CountOperations) -> list[PastRun]:
    """Other jobs of its kind that succeeded at the first attempt: what was interrupted took longer for reasons of its own."""
    query: Any = (
        select(Job, Attempt.accelerator)
        .join(Attempt, (col(Attempt.job_id) == col(Job.id)) & (col(Attempt.seq) == 1))
        .where(Job.project_id == job.project_id, Job.kind == job.kind, Job.state == JobState.SUCCEEDED, Job.attempt == 1)
        .where(Job.id != job.id, col(Job.is_probe).is_(False))
        .order_by(col(Job.id).desc())
        .limit(PAST_RUNS)
    )
    return [_describe(session, past, accelerator, count_operations) for past, accelerator in session.execute(query)]


def _describe(session: Session, job: Job, accelerator: str, count_operations: CountOperations) -> PastRun:
    return PastRun(
        seconds=(job.finished_at or 0.0) - (job.started_at or 0.0),
        steps=job.spec.get("steps"),
        step_seconds=read_step_seconds(session, job),
        operations=count_operations(job, accelerator),
        accelerator=accelerator,
        ranks=job.slots * job.nodes,
    )


def read_step_seconds(session: Session, job: Job) -> float | None:
    """Median time of a step of a job's newest attempt; None if it did not report two."""
    query = select(MetricPoint.step, MetricPoint.at).where(
        MetricPoint.job_id == job.id, MetricPoint.name == STEP_METRIC, MetricPoint.attempt == job.attempt
    )
    return median_step([(step, at) for step, at in session.exec(query.order_by(col(MetricPoint.id)).limit(POINTS))])


def median_step(points: Sequence[tuple[int, float]]) -> float | None:
    """Median time of a step from (step, moment) pairs: the few that were validated or saved after do not count. Pure."""
    times = [(end - start) / (last - first) for (first, start), (last, end) in pairwise(points) if last > first]
    return statistics.median(times) if times else None
