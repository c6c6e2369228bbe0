"""The schema's history (Alembic), and the one function that brings a database up to date."""

from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.kit.database import Database

if TYPE_CHECKING:
    from alembic.config import Config


def migrate(url: str) -> None:
    """Bring a database to the newest revision; running it twice, or on several machines at once, is harmless."""
    from alembic import command

    command.upgrade(make_config(url), "head")


def is_current(database: Database) -> bool:
    """Whether a database is at the newest revision."""
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    head = ScriptDirectory.from_config(make_config("sqlite://")).get_current_head()
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() == head


def make_config(url: str) -> "Config":
    """Alembic's configuration, without an ini file; the URL travels as an attribute and never through `%` interpolation."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["url"] = url
    return config
