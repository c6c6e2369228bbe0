"""A whole platform as processes of its own, each of which may be killed, frozen and started again."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from pydantic import SecretStr

from modelyard.domain.migrations import migrate
from modelyard.domain.projects.repository import SCOPES, create_key, get_or_create_project
from modelyard.kit.database import Database
from modelyard.kit.settings import Settings
from modelyard.workers.engine.processes import find_tagged
from tests.servers import Postgres, Valkey, free_port

LEASE_SECONDS = 6.0
"""Short, so that jobs outlast it many times; long enough for a runner to start on a busy machine."""
PROGRAMS: dict[str, tuple[str, ...]] = {
    "api": ("api",),
    "scheduler-1": ("scheduler",),
    "scheduler-2": ("scheduler",),
    "data-1": ("worker", "--name", "data-1", "--stages", "prepare", "--slots", "1"),
    "data-2": ("worker", "--name", "data-2", "--stages", "prepare", "--slots", "1"),
    "train-1": ("worker", "--name", "train-1", "--stages", "pretrain", "--slots", "1"),
    "train-2": ("worker", "--name", "train-2", "--stages", "pretrain", "--slots", "1"),
    "train-3": ("worker", "--name", "train-3", "--stages", "pretrain", "--slots", "1"),
}
"""More workers than work: a lost job could be taken at once, also by mistake."""
WORKERS = tuple(name for name in PROGRAMS if name.startswith(("data", "train")))
SCHEDULERS = ("scheduler-1", "scheduler-2")


@dataclass
class Cluster:
    """API, two schedulers, workers, and a broker that keeps nothing."""

    folder: Path
    postgres: Postgres | None = None
    rooms: Sequence[Path] = ()
    """Folders of code to run instead of the installed one."""
    lease_seconds: float = LEASE_SECONDS
    programs: Sequence[str] = tuple(PROGRAMS)
    faults: str = ""
    """`MODELYARD_FAULT` of every program."""
    broker: Valkey = field(default_factory=lambda: Valkey(free_port()))
    port: int = field(default_factory=free_port)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    key: str = ""

    @property
    def url(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def settings(self) -> Settings:
        """What every process of the cluster is told."""
        return Settings(
            _env_file=None,
            data_dir=self.folder / "data",
            redis_url=SecretStr(self.broker.url),
            database_url=SecretStr(self.database_url),
            broker_timeout_seconds=1.0,
        )

    @property
    def database_url(self) -> str:
        """SQLite in the folder, or the server's database."""
        return self.postgres.url_of("migrated") if self.postgres else f"sqlite:///{self.folder / 'chaos.db'}"

    def start(self) -> None:
        """Start everything; return before the API answers."""
        (self.folder / "logs").mkdir(parents=True)
        if self.postgres is None:
            migrate(self.database_url)
        database = Database(self.database_url)
        with database.write() as session:
            project = get_or_create_project(session, "default")
            self.key = create_key(session, project.id, "chaos", SCOPES)[1]
        database.dispose()
        self.broker.start()
        for name in self.programs:
            self.start_program(name)

    def revive(self) -> None:
        """Start again what has died, as a supervisor would."""
        for name, process in list(self.processes.items()):
            if process.poll() is not None:
                self.start_program(name)

    def start_program(self, name: str) -> None:
        """Start one program, again if it ran before."""
        arguments = [*PROGRAMS[name], *(["--port", str(self.port)] if name == "api" else [])]
        with (self.folder / "logs" / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "modelyard.cli", *arguments], env=self._environment(), stdout=log, stderr=log
            )

    def kill(self, name: str) -> None:
        """`kill -9`, as a machine that fails would."""
        self.processes[name].kill()
        self.processes[name].wait()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to one program, if it still runs."""
        if self.processes[name].poll() is None:
            self.processes[name].send_signal(number)

    def attempts(self) -> dict[str, list[psutil.Process]]:
        """Living processes of attempts, by the attempt's tag; the runner first."""
        found = find_tagged(self.settings.data_dir)
        return {tag: sorted(processes, key=lambda each: not is_runner(each)) for tag, processes in found.items()}

    def kill_all(self) -> None:
        """`kill -9` to every program, frozen or not; what is below them dies with them, or when the cluster is stopped."""
        for name in self.processes:
            self.kill(name)

    def stop(self) -> None:
        """End everything, politely where it is still able to listen."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.broker.kill()
        for processes in self.attempts().values():
            for each in processes:
                each.kill()

    def _environment(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("MODELYARD_", "FLOWER_"))}
        if self.rooms:
            clean["PYTHONPATH"] = os.pathsep.join(map(str, self.rooms))
        return {
            **clean,
            "MODELYARD_DATA_DIR": str(self.folder / "data"),
            "MODELYARD_DATABASE_URL": self.database_url,
            "MODELYARD_REDIS_URL": self.broker.url,
            "MODELYARD_LEASE_SECONDS": f"{self.lease_seconds:g}",
            "MODELYARD_SCHEDULER_INTERVAL_SECONDS": "0.5",
            "MODELYARD_BROKER_TIMEOUT_SECONDS": "1",
            "MODELYARD_STOP_GRACE_SECONDS": "15",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            **({"MODELYARD_FAULT": self.faults} if self.faults else {}),
        }


def is_runner(process: psutil.Process) -> bool:
    """Whether a process of an attempt is its runner, not one of its ranks."""
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return "workers.runner" in title or title.endswith(" runner")
