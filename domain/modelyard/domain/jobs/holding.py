"""Jobs held for a quota or until a start time: which there are, and moving them into their queue and out of it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from modelyard.domain.jobs.allowances import read_use
from modelyard.domain.jobs.lifecycle import HeldReason, JobState
from modelyard.domain.jobs.ownership import change
from modelyard.domain.jobs.repository import find_job
from modelyard.domain.jobs.tables import HELD, QUEUED, Job, JobTally
from modelyard.domain.projects.tables import Project
from modelyard.domain.scheduling.quotas import Quotas, Use, Waiting, say_held
from modelyard.kit.database import database_now

STARTS_PER_LOOK = 200
MOST_ROOM = 1000
"""Of a project with room for more slots than this, no more jobs are looked at in one go."""


@dataclass(frozen=True)
class Limited:
    """A project whose jobs may have to wait for its quotas, and how it stands."""

    id: str
    name: str
    quotas: Quotas
    use: Use


def list_due(session: Session) -> Sequence[str]:
    """Ids of jobs whose start time has come, the best first."""
    waits = (HELD, Job.reason == HeldReason.START_TIME, col(Job.start_at) <= database_now())
    return session.exec(select(Job.id).where(*waits).order_by(col(Job.order_key)).limit(STARTS_PER_LOOK)).all()


def list_limited(session: Session) -> list[Limited]:
    """Projects that limit what may start, and those with jobs held for a quota that is gone."""
    held = select(Job.id).where(HELD, Job.reason == HeldReason.QUOTA, Job.project_id == Project.id).correlate(Project).exists()
    limits = col(Project.max_gpus).is_not(None) | col(Project.max_gpu_hours_per_month).is_not(None)
    columns: Any = (Project.id, Project.name, Project.max_gpus, Project.max_queued_jobs, Project.max_gpu_hours_per_month)
    rows = [(id_, name, Quotas(*quotas)) for id_, name, *quotas in session.execute(select(*columns).where(limits | held))]
    return [Limited(id_, name, quotas, read_use(session, id_, quotas)) for id_, name, quotas in rows]


def list_waiting(session: Session, project: Limited, served: Collection[str], most: int) -> list[Waiting]:
    """The best queued jobs of a project and the best held for its quota, in each queue as many as could matter.

    Not those that back off before their next attempt: meanwhile they need no room.
    """
    room = MOST_ROOM if project.quotas.max_gpus is None else project.quotas.max_gpus - project.use.active_slots
    limit = min(max(room, 0), MOST_ROOM) + most
    queued = (QUEUED,)
    held = (HELD, Job.reason == HeldReason.QUOTA)
    found = []
    for queue in _list_queues(session, project.id):
        for is_held, waits in ((False, queued), (True, held)):
            columns: Any = (Job.id, Job.slots, Job.nodes, Job.order_key)
            mine = (Job.project_id == project.id, Job.queue == queue, Job.not_before <= database_now())
            query: Any = select(*columns).where(*waits, *mine)
            rows = session.execute(query.order_by(col(Job.order_key)).limit(limit))
            found += [Waiting(id_, queue, slots * nodes, key, is_held, queue in served) for id_, slots, nodes, key in rows]
    return found


def _list_queues(session: Session, project_id: str) -> Sequence[str]:
    waiting = (JobTally.project_id == project_id, col(JobTally.state).in_((JobState.QUEUED, JobState.HELD)))
    return session.exec(select(JobTally.queue).where(*waiting).group_by(col(JobTally.queue)).having(_MANY)).all()


_MANY: Any = func.sum(JobTally.jobs) > 0


def release(session: Session, job_id: str) -> bool:
    """Let a job queue up that was held for a quota; False if it is not, or no longer."""
    job = find_job(session, job_id, for_update=True)
    if job is None or job.state != JobState.HELD or job.reason != HeldReason.QUOTA:
        return False
    change(session, job, JobState.QUEUED, reason=None, message=None)
    return True


def hold(session: Session, job_id: str, project: Limited) -> bool:
    """Take a queued job out of its queue until its project's quotas have room; False if it is not queued any more."""
    job = find_job(session, job_id, for_update=True)
    if job is None or job.state != JobState.QUEUED:
        return False
    slots = job.slots * job.nodes
    others = replace(project.use, queued_slots=max(project.use.queued_slots - slots, 0))
    message = say_held(project.name, project.quotas, others, slots)
    change(session, job, JobState.HELD, {"reason": HeldReason.QUOTA}, reason=str(HeldReason.QUOTA), message=message)
    return True
