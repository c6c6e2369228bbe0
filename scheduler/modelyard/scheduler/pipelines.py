"""Moving held jobs on, and giving finished pipelines their state."""

from modelyard.domain.pipelines.advancement import advance, settle, would_advance
from modelyard.domain.pipelines.repository import Held, list_held, list_unsettled
from modelyard.kit.database import Database, DatabaseAway
from modelyard.kit.faults import fault
from modelyard.kit.logs import get_logger

log = get_logger(__name__)


def advance_held_jobs(database: Database) -> None:
    """Look at every held job once; one that cannot be judged holds up no other."""
    with database.read() as session:
        held = list_held(session)
    for each in held:
        try:
            advance_one(database, each)
        except DatabaseAway:
            raise
        except Exception as error:
            log.error("held job cannot be judged", job_id=each.job.id, exc_info=error)
        fault("pipeline_between_steps")


def advance_one(database: Database, held: Held) -> None:
    """Judge a held job by what was read; only if that changes something, judge it again by fresh, locked rows and write.

    What was read may be stale by then: a change missed now is seen at the next look.
    """
    with database.read() as session:
        if not would_advance(session, held):
            return
    with database.write() as session:
        fresh = advance(session, held.job.id)
    if fresh is not None and fresh.step is not None:
        held.steps[fresh.step] = fresh  # so that a failure reaches the steps behind it in the same look


def settle_pipelines(database: Database) -> None:
    """Give pipelines their final state once every step has one."""
    with database.read() as session:
        unsettled = list_unsettled(session)
    for pipeline_id in unsettled:
        with database.write() as session:
            settle(session, pipeline_id)
