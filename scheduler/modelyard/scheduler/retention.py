"""Removing checkpoints nobody needs: those users removed, and of jobs long over all but the newest and the best."""

from collections.abc import Sequence

from modelyard.domain.jobs.parts import part_keys
from modelyard.domain.jobs.repository import find_job
from modelyard.domain.jobs.retention import forget_removed, judge_checkpoints, list_removed, list_unjudged, list_with_removed
from modelyard.kit.database import Database
from modelyard.kit.logs import get_logger
from modelyard.kit.storage import ArtifactStore

DAY_SECONDS = 86_400.0
log = get_logger(__name__)


def sweep_checkpoints(database: Database, store: ArtifactStore, keep_days: float) -> None:
    """Judge the checkpoints of jobs that ended so many days ago, and remove the files of all that were given up.

    Three steps, each harmless to do again: rows say that nobody reads them, files go, rows go. Stopped in between, the rows
    still say what is left to remove.
    """
    before = database.now() - keep_days * DAY_SECONDS
    with database.read() as session:
        job_ids = list_unjudged(session, before)
    for job_id in job_ids:
        with database.write() as session:
            judge_checkpoints(session, job_id, before)
    with database.read() as session:
        given_up = list_with_removed(session)
    for job_id in given_up:
        with database.read() as session:
            keys, nodes = list_removed(session, job_id), getattr(find_job(session, job_id), "nodes", 1)
        for part in _list_parts(keys, nodes):
            store.delete(part)
        with database.write() as session:
            forget_removed(session, job_id, keys)
        log.info("checkpoints removed", job_id=job_id, checkpoints=len(keys))


def _list_parts(keys: Sequence[str], nodes: int) -> list[str]:
    return [part for key in keys for part in part_keys(key, nodes)]
