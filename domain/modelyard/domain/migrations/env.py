"""What Alembic runs: connect as the platform connects, and migrate under a lock."""

from alembic import context
from sqlalchemy import event, text

from modelyard.domain.tables import METADATA
from modelyard.kit.database import Database
from modelyard.kit.settings import get_settings

MIGRATION_LOCK = 7_305_113
"""An arbitrary number: PostgreSQL's advisory lock that lets one process migrate at a time."""


def run() -> None:
    """Apply the revisions asked for."""
    database = Database(context.config.attributes.get("url") or get_settings().database)
    if database.engine.dialect.name == "sqlite":
        # Changing a column there means making the table anew: rows that refer to the old one must not notice.
        event.listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys=OFF"))
    with database.engine.begin() as connection:  # on SQLite this is BEGIN IMMEDIATE, a lock by itself
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True)
        context.run_migrations()
    database.dispose()


run()
