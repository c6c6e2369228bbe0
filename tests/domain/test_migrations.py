"""The migrations make exactly the tables the code believes in."""

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from factories import Factory, write
from servers import Postgres
from sqlalchemy import inspect, text
from sqlmodel import select
from waiting_processes import run_at_once

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.tables import Attempt
from modelyard.domain.migrations import is_current, make_config, migrate
from modelyard.domain.tables import METADATA
from modelyard.kit.database import Database

DAYS = text(
    "SELECT project_id, day, kind, accelerator, attempts, round(CAST(starting AS NUMERIC), 3) AS starting, "
    "round(CAST(before_month AS NUMERIC), 3) AS before_month FROM usage_day"
)
MIGRATE = """
import sys
from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.tables import Attempt
from modelyard.domain.migrations import migrate
print("ready", flush=True)
input()
migrate(sys.argv[1])
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.create()


class TestMigrate:
    def test_up_from_nothing_twice_and_down_to_nothing(self, empty_url: str) -> None:
        database = Database(empty_url)
        assert not is_current(database)
        migrate(empty_url)
        migrate(empty_url)
        assert is_current(database)
        assert set(inspect(database.engine).get_table_names()) == {*METADATA.tables, "alembic_version"}
        command.downgrade(make_config(empty_url), "base")
        assert inspect(database.engine).get_table_names() == ["alembic_version"]
        database.dispose()

    @pytest.mark.filterwarnings(
        "ignore:.*expression-based index ix_usage_size", "ignore:.*expression-based index 'ix_usage_size'"
    )
    def test_makes_what_the_code_declares(self, database: Database) -> None:
        with database.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
            assert compare_metadata(context, METADATA) == []

    def test_two_at_once(self, empty_url: str) -> None:
        ended = run_at_once(MIGRATE, [[empty_url]] * 2)
        assert [each.code for each in ended] == [0, 0], ended
        assert is_current(Database(empty_url))

    def test_days_of_an_older_ledger_are_added_up(self, database: Database, factory: Factory) -> None:
        for kind, slots in (("import", 1), ("import", 1), ("prepare", 1)):
            job = factory.running(kind)
            factory.update(job, slots=slots)
            with database.write() as session:  # ended now, began before this month did
                session.exec(select(Attempt).where(Attempt.job_id == job.id)).one().started_at -= 40 * 86_400.0
            write(database, finish, job.id, 1, Outcome.SUCCEEDED)
        with database.engine.connect() as connection:
            before = sorted(map(repr, connection.execute(DAYS).all()))
        url = database.engine.url.render_as_string(hide_password=False)
        database.dispose()
        command.downgrade(make_config(url), "0002")
        migrate(url)
        with database.engine.connect() as connection:
            after = connection.execute(DAYS).all()
        assert sorted(map(repr, after)) == before
        assert {(row.kind, row.attempts) for row in after} == {("import", 2), ("prepare", 1)}
        assert all(row.before_month > 9 * 86_400 for row in after)
