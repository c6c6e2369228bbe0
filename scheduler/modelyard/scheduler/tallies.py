"""Adding up the changes to the numbers of jobs, so that reading a number stays cheap."""

from modelyard.domain.jobs.tallies import add_up, needs_adding_up
from modelyard.kit.database import Database


def add_up_tallies(database: Database) -> None:
    """Replace many small changes by their sum; nothing is written where there is nothing to add."""
    with database.read() as session:
        if not needs_adding_up(session):
            return
    with database.write() as session:
        add_up(session)
