"""What tests of several rooms share: real databases, a real broker, settings of their own."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from factories import Factory
from servers import Postgres, Valkey, free_port, run_postgres

from modelyard.domain.migrations import migrate
from modelyard.kit.database import Database
from modelyard.kit.settings import Settings

DATABASES = ("sqlite", "postgresql")
# What a shell runs in the background ignores Ctrl-C, and so would all programs the tests start and end by it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL server for all tests."""
    with run_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database to copy."""
    file = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh, migrated database: every test that asks for it runs on SQLite and on PostgreSQL."""
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        return postgres.empty()
    return copy_sqlite(request.getfixturevalue("migrated_file"), tmp_path)


@pytest.fixture
def sqlite_url(migrated_file: Path, tmp_path: Path) -> str:
    """The URL of a fresh, migrated SQLite database, for tests where the database makes no difference."""
    return copy_sqlite(migrated_file, tmp_path)


def copy_sqlite(migrated: Path, folder: Path) -> str:
    """Copy a migrated database into a folder; return its URL."""
    shutil.copy(migrated, folder / "test.db")
    return f"sqlite:///{folder / 'test.db'}"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A fresh database."""
    database = Database(database_url)
    yield database
    database.dispose()


@pytest.fixture
def factory(database: Database) -> Factory:
    """Makes rows in the fresh database, with good defaults."""
    return Factory(database)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    """One broker for all tests."""
    server = Valkey(free_port())
    server.start()
    yield server
    server.kill()


@pytest.fixture
def valkey(valkey_server: Valkey) -> Iterator[Valkey]:
    """A running, empty broker; whatever a test did to it is undone."""
    yield valkey_server
    if valkey_server.process is None:
        valkey_server.start()
    valkey_server.thaw()
    valkey_server.ask().flushall()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a platform of its own, untouched by the environment, whose broker does not answer."""
    for name in [name for name in os.environ if name.startswith("MODELYARD_")]:
        monkeypatch.delenv(name)
    return Settings(
        _env_file=None,
        data_dir=tmp_path / "data",
        redis_url=f"redis://127.0.0.1:{free_port()}/0",
        broker_timeout_seconds=0.5,
    )
