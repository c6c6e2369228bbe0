"""Quotas and start times: letting held jobs queue up when their turn comes, and taking back those that must wait."""

from modelyard.domain.jobs.holding import hold, list_due, list_limited, list_waiting, release
from modelyard.domain.pipelines.advancement import advance
from modelyard.domain.scheduling.quotas import plan_moves
from modelyard.domain.workers.repository import list_online
from modelyard.kit.database import Database
from modelyard.kit.logs import get_logger

MOVES_PER_LOOK = 100
"""Jobs moved in one look at most, so that the other chores come to their turn."""
log = get_logger(__name__)


def start_due_jobs(database: Database) -> None:
    """Let jobs go on whose start time has come."""
    with database.read() as session:
        due = list_due(session)
    for job_id in due:
        with database.write() as session:
            advance(session, job_id)


def apply_quotas(database: Database) -> None:
    """See to it that of each project the best jobs are queued, as many as its quotas let start."""
    with database.read() as session:
        limited = list_limited(session)
        served = {queue for worker in list_online(session) for queue in worker.queues} if limited else set()
        plans = []
        left = MOVES_PER_LOOK
        for project in limited:
            moves = plan_moves(project.quotas, project.use, list_waiting(session, project, served, left), left)
            left -= len(moves.release) + len(moves.hold)
            plans.append((project, moves))
    for project, moves in plans:
        # Held first: what is released counts as queued from then on.
        for job_id in moves.hold:
            with database.write() as session:
                hold(session, job_id, project)
        for job_id in moves.release:
            with database.write() as session:
                release(session, job_id)
        if moves.hold or moves.release:
            log.info("quota applied", project=project.name, held=len(moves.hold), released=len(moves.release))
