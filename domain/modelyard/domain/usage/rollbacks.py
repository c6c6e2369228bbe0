"""Stretches of attempts whose steps were thrown away by the attempts themselves: what the event `rolled_back` tells."""

from collections.abc import Mapping, Sequence

from sqlmodel import Session, col, select

from modelyard.domain.jobs.tables import Job, JobEvent

Stretch = tuple[float, float]
"""From when until when, in seconds since the epoch by the recipe's clock."""


def find_lost(session: Session, jobs: Sequence[Job]) -> Mapping[tuple[str, int], Sequence[Stretch]]:
    """(job id, attempt) -> the stretches its steps were lost in; attempts that never went back are left out."""
    # Nearly no job ever goes back, and this is asked at every ending: those that did have the figure.
    ids = [job.id for job in jobs if job.figures.get("rollbacks")]
    if not ids:
        return {}
    found: dict[tuple[str, int], list[Stretch]] = {}
    query = select(JobEvent).where(col(JobEvent.job_id).in_(ids), JobEvent.type == "rolled_back").order_by(col(JobEvent.id))
    for event in session.exec(query).all():
        start, end = event.data.get("lost_from"), event.data.get("lost_until")
        if isinstance(start, int | float) and isinstance(end, int | float):
            found.setdefault((event.job_id, event.attempt), []).append((float(start), float(end)))
    return found
