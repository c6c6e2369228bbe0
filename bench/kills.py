"""Sixty seconds of kill -9: how many jobs does each task queue lose, and how many does it run twice?

The same for all: jobs that write a line when they start and one when they are done; two workers with two jobs at a time;
every few seconds one process of the workers, chosen at random with a fixed seed, is killed; a dead worker is started again at
once. Then everything is left in peace until all is done or nothing has happened for a while.

"Run twice to the end" counts what the jobs themselves wrote: a process killed between its last line and the report of its end
runs once more under every queue that loses nothing. Modelyard's records still have one success and no two attempts at a time.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from sqlmodel import select

from bench.environments import python_of, version_of
from bench.measurement import Row, say
from bench.servers import make_database, running, running_broker, server_environment
from modelyard.domain.jobs.bodies import JobCreate
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.submission import submit
from modelyard.domain.jobs.tables import Job
from modelyard.kit.database import Database

JOBS = 80
WORK_SECONDS = 1.0
PAUSE_SECONDS = (2.0, 5.0)
"""Between two kills."""
PATIENCE_SECONDS = 45.0
"""Without a new line: three times what the recoverable queues need to give a job back."""
ROOT = Path(__file__).parents[1]
PEERS = {"celery": "celery", "celery acks_late": "celery", "rq": "rq", "dramatiq": "dramatiq", "huey": "huey"}


@dataclass
class Crew:
    """Workers that are started again whenever they die."""

    command: Callable[[int], Sequence[str]]
    environment: dict[str, str]
    size: int
    folder: Path
    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def keep_up(self) -> None:
        """Start whoever is missing."""
        for number in range(self.size):
            if number >= len(self.processes):
                self.processes.append(self._start(number))
            elif self.processes[number].poll() is not None:
                self.processes[number] = self._start(number)

    def _start(self, number: int) -> "subprocess.Popen[bytes]":
        with (self.folder / f"worker-{number}.log").open("ab") as log:
            return subprocess.Popen(self.command(number), env=self.environment, stdout=log, stderr=log, cwd=self.folder)

    def kill_one(self, chance: random.Random) -> None:
        """Kill a process of a worker, or one below it."""
        found: list[psutil.Process] = []
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                root = psutil.Process(process.pid)
                found += [root, *root.children(recursive=True)]
        if found:
            with suppress(psutil.NoSuchProcess):
                chance.choice(sorted(found, key=lambda each: each.pid)).kill()

    def dismiss(self) -> None:
        """End all of it, and whatever still carries our mark."""
        for process in self.processes:
            process.kill()
            process.wait()
        mark = self.environment["LINES"]
        for each in psutil.process_iter():
            with suppress(psutil.Error):
                if each.pid != os.getpid() and each.environ().get("LINES") == mark:
                    each.kill()


def measure(kill_seconds: float, with_peers: bool = True) -> list[Row]:
    """Two rows per queue."""
    rows = []
    ours = _count(_run_ours, "modelyard", kill_seconds)
    names = list(PEERS) if with_peers else []
    for name in names:
        theirs = _count(_run_peer, name, kill_seconds)
        label = f"{name} {version_of('queues', PEERS[name])}"
        for metric in ("lost", "twice"):
            text = {"lost": f"jobs of {JOBS} lost", "twice": f"jobs of {JOBS} run twice to the end"}[metric]
            text = f"{text} under {kill_seconds:g} s of kill -9"
            rows.append(Row(text, "jobs", ours[metric], theirs[metric], label, None, "0", 1, _tell(ours, theirs)))
    if not names:
        rows.append(Row(f"jobs of {JOBS} lost under {kill_seconds:g} s of kill -9", "jobs", ours["lost"], target="0"))
        rows.append(Row(f"jobs of {JOBS} run twice to the end", "jobs", ours["twice"], target="0"))
    return rows


def _tell(ours: dict[str, float], theirs: dict[str, float]) -> str:
    return f"{ours['kills']:g} / {theirs['kills']:g} kills"


def _count(run: Callable[[str, float, Path, str], int], name: str, kill_seconds: float) -> dict[str, float]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-kills-", ignore_cleanup_errors=True)))
        broker = stack.enter_context(running_broker())
        kills = run(name, kill_seconds, folder, broker)
        done = Counter(_lines(folder, "done"))
        started = Counter(_lines(folder, "start"))
    lost, twice = JOBS - len(done), sum(1 for number in done.values() if number > 1)
    again = sum(number - 1 for number in started.values())
    say(f"  {name}: {kills} kills, {lost} lost, {twice} run twice to the end, {again} times begun again")
    return {"lost": lost, "twice": twice, "kills": kills}


def _lines(folder: Path, word: str) -> list[str]:
    file = folder / "lines"
    return [line for line in file.read_text().splitlines() if line.startswith(word)] if file.exists() else []


def _run_peer(name: str, kill_seconds: float, folder: Path, broker: str) -> int:
    python, script = str(python_of("queues")), str(Path(__file__).parent / "peers" / "queues.py")
    environment = {**_environment(folder), "BROKER": broker, "PYTHONPATH": str(Path(script).parent)}
    subprocess.run([python, script, name, "enqueue", str(JOBS)], env=environment, check=True, cwd=folder)
    crew = Crew(lambda number: [python, script, name, "worker"], environment, 4 if name == "rq" else 2, folder)
    return _torment(crew, kill_seconds, folder)


def _run_ours(name: str, kill_seconds: float, folder: Path, broker: str) -> int:
    database, _, project = make_database(folder)
    for number in range(JOBS):
        spec = {"kind": "import", "name": f"line-{number}", "source": {"package": "x", "file": "x"}}
        with database.write() as session:
            submit(session, project, JobCreate.model_validate({"spec": spec}).to_request())
    rooms = [str(ROOT / room) for room in ("kit", "domain", "api", "workers", "scheduler", "cli")]
    path = os.pathsep.join([str(Path(__file__).parent / "peers" / "site"), str(ROOT), *rooms])
    lease = {"MODELYARD_LEASE_SECONDS": "6", "MODELYARD_LOG_LEVEL": "INFO"}
    environment = {**_environment(folder), **server_environment(folder, broker), **lease, "PYTHONPATH": path}
    modelyard = [sys.executable, "-m", "modelyard.cli"]
    crew = Crew(
        lambda number: [*modelyard, "worker", "--stages", "prepare", "--slots", "2", "--name", f"worker-{number}"],
        environment,
        2,
        folder,
    )
    with running([*modelyard, "scheduler"], environment, folder):
        kills = _torment(crew, kill_seconds, folder)
        _tell_unfinished(database)
    database.dispose()
    return kills


def _tell_unfinished(database: Database) -> None:
    """Say what the jobs that did not succeed wait for or failed of: a number of lost jobs alone explains nothing."""
    with database.read() as session:
        jobs = session.exec(select(Job).where(Job.state != JobState.SUCCEEDED)).all()
    for (state, why), number in Counter((job.state, job.message or job.reason) for job in jobs).items():
        say(f"  {number} of our jobs are {state}: {why or 'no reason given'}")


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "LINES": str(folder / "lines"), "WORK_SECONDS": str(WORK_SECONDS), "OMP_NUM_THREADS": "1"}


def _torment(crew: Crew, kill_seconds: float, folder: Path) -> int:
    """Kill for so long, then wait until all is done or nothing moves. Returns the number of kills."""
    chance, kills = random.Random(7), 0
    try:
        crew.keep_up()
        _wait_for_lines(folder, 1)
        until = time.monotonic() + kill_seconds
        while time.monotonic() < until:
            _watch(crew, min(chance.uniform(*PAUSE_SECONDS), max(until - time.monotonic(), 0.0)))
            crew.kill_one(chance)
            kills += 1
        lines, moved_at = -1, time.monotonic()
        while len(set(_lines(folder, "done"))) < JOBS and time.monotonic() - moved_at < PATIENCE_SECONDS:
            _watch(crew, 0.5)
            now = len(_lines(folder, "start")) + len(_lines(folder, "done"))
            if now != lines:
                lines, moved_at = now, time.monotonic()
        _watch(crew, 3.0)  # who runs one again does so now
    finally:
        crew.dismiss()
    return kills


def _watch(crew: Crew, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        crew.keep_up()
        time.sleep(0.2)


def _wait_for_lines(folder: Path, number: int, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while len(_lines(folder, "start")) < number and time.monotonic() < until:
        time.sleep(0.1)
