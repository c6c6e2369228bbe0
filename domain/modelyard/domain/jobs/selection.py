"""Which waiting job of a queue starts next: the best of each project, fair share between them, quotas and hosts regarded."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import String, bindparam, cast, func
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from modelyard.domain.jobs.allowances import may_start
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.tables import QUEUED, Job, JobTally
from modelyard.domain.projects.tables import Project
from modelyard.domain.scheduling.fair_share import Head, rank
from modelyard.domain.scheduling.standings import read_usage
from modelyard.domain.workers.repository import list_serving
from modelyard.kit.database import database_now


@dataclass(frozen=True)
class Candidate:
    """The best waiting job of a project, and what to know before it starts."""

    head: Head
    slots: int
    """On all its nodes."""
    avoid_hosts: Sequence[str]
    is_limited: bool
    """Whether its project's quotas limit what may start."""


def find_next(session: Session, queue: str, host: str = "") -> Job | None:
    """The job to start next on a host, locked; None if none of the queue may start there now."""
    candidates, avoided = _find_candidates(session, queue, host)
    for candidate in _in_order(session, candidates):
        best = Best(queue, candidate.head.project_id, host, avoided)
        job = _find_best(session, best) if not candidate.is_limited else _find_within_quota(session, candidate, best)
        if job is not None:
            return job
    return None


@dataclass(frozen=True)
class Best:
    """The job to look for: the best of a project that no other claim holds at this moment."""

    queue: str
    project_id: str
    host: str
    avoided: str | None
    """The host, where jobs that avoid it are left to others."""


def _find_best(session: Session, best: Best) -> Job | None:
    values = {"queue": best.queue, "project_id": best.project_id, **_avoiding(best.avoided)}
    job: Job | None = session.execute(_best_waiting(best.avoided is not None), values).scalars().first()
    # Not always the head that was read before, if another claim was faster: then its hosts are looked at only here.
    if job is None or best.host not in job.avoid_hosts or not is_served_elsewhere(session, best.queue, best.host):
        return job
    return None


def _find_within_quota(session: Session, candidate: Candidate, best: Best) -> Job | None:
    # Going back to the savepoint gives the project's lock up: nobody waits for a project while holding another.
    with session.begin_nested() as savepoint:
        job = _find_best(session, best) if may_start(session, best.project_id, candidate.slots) else None
        if job is None:
            savepoint.rollback()
    return job


def _find_candidates(session: Session, queue: str, host: str) -> tuple[list[Candidate], str | None]:
    """The best job of each project; those that avoid the host only where no other host serves the queue."""
    candidates = _read_candidates(session, queue)
    if not any(host in each.avoid_hosts for each in candidates) or not is_served_elsewhere(session, queue, host):
        return candidates, None
    return _read_candidates(session, queue, host), host


def is_served_elsewhere(session: Session, queue: str, host: str) -> bool:
    """Whether a worker on another host serves the queue."""
    return any(worker.host != host and queue in worker.queues for worker in list_serving(session))


def _in_order(session: Session, candidates: list[Candidate]) -> list[Candidate]:
    if len(candidates) < 2:
        return candidates  # nobody to be fair to
    usage = read_usage(session, [each.head.project_id for each in candidates])
    by_head = {each.head: each for each in candidates}
    return [by_head[head] for head in rank(list(by_head), usage)]


def _read_candidates(session: Session, queue: str, avoided: str | None = None) -> list[Candidate]:
    rows = session.execute(_candidates(avoided is not None), {"queue": queue, **_avoiding(avoided)})
    return [Candidate(Head(project, key, id_), slots * nodes, *rest) for project, key, id_, slots, nodes, *rest in rows]


# Statements are made once: making one takes longer than SQLite takes to answer it.


@cache
def _candidates(is_avoiding: bool) -> Any:
    waiting = (
        select(JobTally.project_id)
        .where(JobTally.queue == bindparam("queue"), JobTally.state == JobState.QUEUED)
        .group_by(col(JobTally.project_id))
        .having(func.sum(col(JobTally.jobs)) > 0)
    )
    best_id = _waiting(select(Job.id), is_avoiding).where(Job.project_id == Project.id).limit(1).correlate(Project)
    best = aliased(Job)
    limits = col(Project.max_gpus).is_not(None) | col(Project.max_gpu_hours_per_month).is_not(None)
    columns: Any = (best.project_id, best.order_key, best.id, best.slots, best.nodes, best.avoid_hosts, limits)
    query: Any = select(*columns).select_from(Project).join(best, best.id == best_id.scalar_subquery())
    return query.where(col(Project.id).in_(waiting))


@cache
def _best_waiting(is_avoiding: bool) -> Any:
    query = _waiting(select(Job), is_avoiding).where(Job.project_id == bindparam("project_id"))
    return query.limit(1).with_for_update(skip_locked=True)


def _waiting(query: Any, is_avoiding: bool) -> Any:
    query = query.where(Job.queue == bindparam("queue"), QUEUED, Job.not_before <= database_now())
    if is_avoiding:
        query = query.where(cast(col(Job.avoid_hosts), String()).not_like(bindparam("avoided"), escape="/"))
    return query.order_by(col(Job.order_key), col(Job.id))


def _avoiding(host: str | None) -> dict[str, str]:
    """The parameter of a statement that leaves jobs out which avoid a host."""
    if host is None:
        return {}
    name = json.dumps(host)
    for special in "/%_":
        name = name.replace(special, f"/{special}")
    return {"avoided": f"%{name}%"}
