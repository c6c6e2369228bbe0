"""Moving held jobs on, and giving finished pipelines their state."""

from modelyard.domain.jobs.lifecycle import StaleAttempt
from modelyard.domain.pipelines.service import advance, list_held, list_running_pipelines, settle
from modelyard.kit.database import Database


def advance_held_jobs(database: Database) -> None:
    """Look at every held job once, each in a transaction of its own."""
    with database.read() as session:
        held = list_held(session)
    for job in held:
        try:
            with database.write() as session:
                advance(session, session.merge(job))
        except StaleAttempt:
            continue  # somebody cancelled it meanwhile


def settle_pipelines(database: Database) -> None:
    """Give pipelines their final state once every step has one."""
    with database.read() as session:
        running = list_running_pipelines(session)
    for pipeline in running:
        with database.write() as session:
            settle(session, session.merge(pipeline))
