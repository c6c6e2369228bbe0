"""What the tests of the command line share: running the command as a user does, without a user's environment."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn
from pydantic import SecretStr
from servers import free_port
from typer.testing import CliRunner

from modelyard.api.app import create_app
from modelyard.cli.client import Client
from modelyard.cli.main import app
from modelyard.domain.projects.repository import create_key, get_or_create_project
from modelyard.kit.database import Database
from modelyard.kit.settings import Settings

Command = Callable[..., str]
Run = Callable[..., subprocess.CompletedProcess[str]]
REPOSITORY = Path(__file__).parents[2]


def clean_environment() -> dict[str, str]:
    """The environment without settings of another platform."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MODELYARD_", "FLOWER_"))}


@pytest.fixture
def modelyard(tmp_path: Path) -> Run:
    """Run `modelyard …` in an empty folder and return what it printed and its exit code."""

    def run(
        *arguments: str, stdin: str | None = None, timeout: float = 120, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "modelyard.cli", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=tmp_path,
            env={**clean_environment(), **environment},
        )

    return run


@pytest.fixture
def client(settings: Settings, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client of a running API, which commands find in the environment."""
    settings = settings.model_copy(update={"database_url": SecretStr(sqlite_url)})
    database = Database(sqlite_url)
    with database.write() as session:
        key = create_key(session, get_or_create_project(session).id, "test")[1]
    database.dispose()
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    monkeypatch.setenv("MODELYARD_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MODELYARD_API_KEY", key)
    with Client(f"http://127.0.0.1:{port}", key) as client:
        yield client
    server.should_exit = True
    thread.join()


@pytest.fixture
def command(client: Client) -> Command:
    """Run a command that should succeed; return what it printed."""

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, arguments)
        if done.exception is not None:
            raise done.exception
        return done.stdout.strip()

    return run
