"""A job's metric points as curves, thinned out by the database so that a long run costs no more to draw than a short one."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, func, select
from sqlmodel import Session, col

from modelyard.domain.jobs.tables import MetricPoint

POINTS_PER_CURVE = 2000
"""More than a screen has pixels across."""
CURVES_PER_JOB = 60


@dataclass(frozen=True)
class Curve:
    """One metric over the steps of a job, all attempts together."""

    name: str
    points: list[tuple[int, float]]
    """(step, value), by step; at most `POINTS_PER_CURVE`."""
    reported: int
    """Points the recipe reported."""
    not_finite: int
    """Of these, how many were NaN or infinite and so are not in `points`."""
    smallest: float | None
    largest: float | None


def newest_point(session: Session, job_id: str) -> int:
    """Id of the newest metric point of a job; 0 before the first."""
    # Plus nothing: else the database goes back from the newest point of all until it meets one of this job.
    newest = session.execute(select(func.max(col(MetricPoint.id) + 0)).where(col(MetricPoint.job_id) == job_id)).scalar_one()
    return int(newest or 0)


def read_curves(session: Session, job_id: str, limit: int = POINTS_PER_CURVE) -> list[Curve]:
    """The curves of a job by name, the first `CURVES_PER_JOB` of them."""
    query = (
        select(
            col(MetricPoint.name),
            func.count().label("reported"),
            func.count(col(MetricPoint.value)).label("finite"),
            func.min(col(MetricPoint.value)).label("smallest"),
            func.max(col(MetricPoint.value)).label("largest"),
            func.min(col(MetricPoint.step)).label("first"),
            func.max(col(MetricPoint.step)).label("last"),
        )
        .where(col(MetricPoint.job_id) == job_id)
        .group_by(col(MetricPoint.name))
        .order_by(col(MetricPoint.name))
        .limit(CURVES_PER_JOB)
    )
    return [_read_curve(session, job_id, row, limit) for row in session.execute(query).all()]


def _read_curve(session: Session, job_id: str, row: Row[Any], limit: int) -> Curve:
    mine = (col(MetricPoint.job_id) == job_id, col(MetricPoint.name) == row.name, col(MetricPoint.value).is_not(None))
    if row.finite <= limit:
        points = _read_all(session, mine)
    else:
        points = _read_envelope(session, mine, row.first, row.last - row.first + 1, limit // 2)
    return Curve(row.name, points, row.reported, row.reported - row.finite, row.smallest, row.largest)


def _read_all(session: Session, mine: tuple[Any, ...]) -> list[tuple[int, float]]:
    query = (
        select(col(MetricPoint.step), col(MetricPoint.value)).where(*mine).order_by(col(MetricPoint.attempt), col(MetricPoint.id))
    )
    # A resumed attempt repeats steps after its checkpoint: what it reports replaces what the lost one had said.
    points: dict[int, float] = {step: value for step, value in session.execute(query).all() if value is not None}
    return sorted(points.items())


def _read_envelope(session: Session, mine: tuple[Any, ...], first: int, span: int, buckets: int) -> list[tuple[int, float]]:
    """Smallest and largest value of each bucket of steps: thinned out like this, a spike stays visible."""
    bucket = ((col(MetricPoint.step) - first) * buckets // span).label("bucket")
    step, value = col(MetricPoint.step), col(MetricPoint.value)
    query = select(func.min(step), func.max(step), func.min(value), func.max(value)).where(*mine).group_by(bucket)
    rows = session.execute(query.order_by(bucket)).all()
    return [point for low, high, small, large in rows for point in {low: small, high: large}.items()]
