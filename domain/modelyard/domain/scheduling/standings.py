"""What projects used lately, in the database: charged when an attempt ends, read together with what runs now."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Double, bindparam, case, func, update
from sqlmodel import Session, col, select

from modelyard.domain.jobs.lifecycle import ACTIVE
from modelyard.domain.jobs.tables import OWNED, Job
from modelyard.domain.projects.tables import Project
from modelyard.domain.scheduling.fair_share import ProjectUsage, decay, weigh
from modelyard.kit.database import database_now, read_clock
from modelyard.kit.settings import get_settings

HOUR_SECONDS = 3600.0
FORGOTTEN_HALF_LIVES = 100.0
"""After so many nothing is left; PostgreSQL calls a power that is too small to hold an error."""


def half_life_seconds() -> float:
    """After how long half of what a project used is forgotten."""
    return get_settings().fair_share_half_life_hours * HOUR_SECONDS


def charge(session: Session, project_id: str, slots: int, seconds: float) -> None:
    """Add what an attempt that ends now used to what its project used, the latter decayed until now: one UPDATE."""
    half_life = half_life_seconds()
    half_lives: Any = (database_now() - col(Project.recent_at)) / half_life
    halved: Any = func.power(0.5, half_lives, type_=Double())
    left = case((half_lives <= 0.0, 1.0), (half_lives >= FORGOTTEN_HALF_LIVES, 0.0), else_=halved)
    used = col(Project.recent_gpu_seconds) * left + weigh(slots, seconds, half_life)
    mine = update(Project).where(col(Project.id) == project_id)
    session.execute(
        mine.values(recent_gpu_seconds=used, recent_at=database_now()), execution_options={"synchronize_session": False}
    )


def read_usage(session: Session, project_ids: Collection[str]) -> dict[str, ProjectUsage]:
    """What projects are due and used lately, their running jobs included."""
    now, half_life, ids = read_clock(session), half_life_seconds(), {"ids": list(project_ids)}
    usage = {
        project_id: ProjectUsage(share, decay(recent, now - recent_at, half_life))
        for project_id, share, recent, recent_at in session.execute(_CHARGED, ids)
    }
    for project_id, slots, nodes, started_at in session.execute(_RUNNING, ids):
        known = usage[project_id]
        live = weigh(slots * nodes, now - (started_at or now), half_life)
        usage[project_id] = ProjectUsage(known.share, known.slot_seconds + live)
    return usage


_IDS: Any = bindparam("ids", expanding=True)
_CHARGED_COLUMNS: Any = (Project.id, Project.share, Project.recent_gpu_seconds, Project.recent_at)
_CHARGED: Any = select(*_CHARGED_COLUMNS).where(col(Project.id).in_(_IDS))
_RUNNING_COLUMNS: Any = (Job.project_id, Job.slots, Job.nodes, Job.started_at)
_RUNNING: Any = select(*_RUNNING_COLUMNS).where(col(Job.project_id).in_(_IDS), OWNED, col(Job.state).in_(ACTIVE))
