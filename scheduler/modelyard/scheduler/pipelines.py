"""Moving held jobs on, and giving finished pipelines their state."""

from modelyard.domain.pipelines.service import advance, list_held, list_running_pipelines, settle
from modelyard.kit.database import Database, DatabaseAway
from modelyard.kit.logs import get_logger

log = get_logger(__name__)


def advance_held_jobs(database: Database) -> None:
    """Look at every held job once, each in a transaction of its own; one that cannot be judged holds up no other."""
    with database.read() as session:
        held = [job.id for job in list_held(session)]
    for job_id in held:
        try:
            with database.write() as session:
                advance(session, job_id)
        except DatabaseAway:
            raise
        except Exception as error:
            log.error("held job cannot be judged", job_id=job_id, exc_info=error)


def settle_pipelines(database: Database) -> None:
    """Give pipelines their final state once every step has one."""
    with database.read() as session:
        running = [pipeline.id for pipeline in list_running_pipelines(session)]
    for pipeline_id in running:
        with database.write() as session:
            settle(session, pipeline_id)
