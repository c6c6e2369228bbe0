"""Every query about sweeps and their trials."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from modelyard.domain.errors import NotFound
from modelyard.domain.jobs.lifecycle import ACTIVE, JobState
from modelyard.domain.jobs.tables import Attempt, Checkpoint, Job, MetricPoint
from modelyard.domain.sweeps.tables import Sweep, Trial
from modelyard.domain.usage.tables import UsageEntry
from modelyard.kit.database import read_clock


def get_sweep_or_raise(session: Session, project_id: str, reference: str, for_update: bool = False) -> Sweep:
    """A sweep of a project by id, or the newest of a name. Raises `NotFound`."""
    query = select(Sweep).where(Sweep.project_id == project_id)
    query = query.where((col(Sweep.id) == reference) | (col(Sweep.name) == reference))
    query = query.order_by((col(Sweep.id) == reference).desc(), col(Sweep.id).desc()).limit(1)
    sweep = session.exec(query.with_for_update() if for_update else query).first()
    if sweep is None:
        message = f"There is no sweep {reference} in this project; GET /v1/sweeps lists them"
        raise NotFound(message, field="sweep_id", value=reference)
    return sweep


def list_sweeps(session: Session, project_id: str, after: str | None = None, limit: int = 20) -> Sequence[Sweep]:
    """Newest first; `after` is the id of the last row of the page before."""
    query = select(Sweep).where(Sweep.project_id == project_id).order_by(col(Sweep.id).desc()).limit(limit)
    return session.exec(query.where(Sweep.id < after) if after else query).all()


def list_open(session: Session) -> Sequence[str]:
    """Ids of sweeps that are not finished, oldest first."""
    return session.exec(select(Sweep.id).where(col(Sweep.finished_at).is_(None)).order_by(col(Sweep.id))).all()


def list_trials(session: Session, sweep_id: str) -> Sequence[tuple[Trial, Job | None]]:
    """All trials of a sweep with their jobs, by number."""
    query = select(Trial, Job).join(Job, col(Job.id) == col(Trial.job_id), isouter=True)
    return session.exec(query.where(Trial.sweep_id == sweep_id).order_by(col(Trial.number))).all()


def count_states(session: Session, sweep_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """Sweep id -> state of trials -> how many there are."""
    query = select(Trial.sweep_id, Trial.state, func.count()).where(col(Trial.sweep_id).in_(sweep_ids))
    counts: dict[str, dict[str, int]] = {id_: {} for id_ in sweep_ids}
    for id_, state, count in session.exec(query.group_by(col(Trial.sweep_id), col(Trial.state))).all():
        counts[id_][state] = count
    return counts


def find_trial_of(session: Session, job_id: str) -> Trial | None:
    """The trial a job is, if it is one."""
    return session.exec(select(Trial).where(Trial.job_id == job_id)).first()


def find_newest_point(session: Session, job: Job, metric: str) -> tuple[int, float | None] | None:
    """The newest step a job reported a metric at, and the value there: None for NaN. A figure of the job counts as step 0."""
    query = select(MetricPoint.step, MetricPoint.value).where(MetricPoint.job_id == job.id, MetricPoint.name == metric)
    # Of several attempts the last word counts, so after the step comes the order of writing.
    point = session.exec(query.order_by(col(MetricPoint.step).desc(), col(MetricPoint.id).desc()).limit(1)).first()
    if point is not None:
        return point
    figure = job.figures.get(metric)
    return (0, float(figure)) if isinstance(figure, int | float) and job.state == JobState.SUCCEEDED else None


def find_saved_step(session: Session, job_id: str) -> int | None:
    """Step of a job's newest checkpoint."""
    return session.exec(select(func.max(Checkpoint.step)).where(Checkpoint.job_id == job_id)).one()


def sum_hours(session: Session, sweep_id: str) -> Mapping[str, float]:
    """Job id -> slot-hours its attempts took so far, the running one included."""
    seconds: Any = func.sum((col(UsageEntry.finished_at) - col(UsageEntry.started_at)) * UsageEntry.slots)
    ended = select(UsageEntry.job_id, seconds).join(Trial, col(Trial.job_id) == col(UsageEntry.job_id))
    hours = dict(session.exec(ended.where(Trial.sweep_id == sweep_id).group_by(col(UsageEntry.job_id))).all())
    now = read_clock(session)
    running = select(Job.id, Job.slots, Job.nodes, Attempt.started_at).join(Trial, col(Trial.job_id) == col(Job.id))
    running = running.join(Attempt, (col(Attempt.job_id) == col(Job.id)) & (col(Attempt.seq) == col(Job.attempt)))
    for id_, slots, nodes, started in session.exec(
        running.where(Trial.sweep_id == sweep_id, col(Job.state).in_(ACTIVE), col(Attempt.finished_at).is_(None))
    ).all():
        hours[id_] = hours.get(id_, 0.0) + (now - started) * slots * nodes
    return {id_: used / 3600 for id_, used in hours.items()}
