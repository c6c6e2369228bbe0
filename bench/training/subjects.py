"""Programs under test as processes of their own, and what their stopwatches say."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_SECONDS = 900
SKIPPED_STEPS = 2
"""Steps that warm up allocator and caches; not counted where every step has the same number of tokens."""


@dataclass(frozen=True)
class Watched:
    """What a stopwatch wrote."""

    started: float
    """When the process began, seconds since the epoch."""
    stamps: list[tuple[float, float]]
    """(wall, CPU) seconds at the first forward pass of training and after each optimizer step."""
    peak_memory_mib: float
    more: dict[str, Any]

    def seconds_of_steps(self, skipped: int = SKIPPED_STEPS) -> tuple[float, float, int]:
        """Return (wall seconds, CPU seconds, steps) of all steps after the first few."""
        (wall, cpu), (last_wall, last_cpu) = self.stamps[skipped], self.stamps[-1]
        return last_wall - wall, last_cpu - cpu, len(self.stamps) - 1 - skipped

    def first_step(self) -> tuple[float, float]:
        """Return (wall, CPU) seconds from the start of the process to its first optimizer step."""
        return self.stamps[1][0] - self.started, self.stamps[1][1]


def run_program(module: str, document: dict[str, Any], python: Path | None = None) -> Watched:
    """Run a program of this package that reads a JSON document and writes what its stopwatch saw."""
    environment = document.get("environment")
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as made:
        given, found, log = Path(made, "given.json"), Path(made, "found.json"), Path(made, "log")
        given.write_text(json.dumps({**document, "stopwatch": str(found), "scratch": made}))
        _run([str(python or sys.executable), "-m", f"bench.training.{module}", str(given)], log, environment)
        answer = json.loads(found.read_text())
    return Watched(answer.pop("started"), [tuple(stamp) for stamp in answer.pop("stamps")], answer.pop("peak_memory_mib"), answer)


def run_module(module: str, arguments: Sequence[str], log: Path, **environment: str) -> None:
    """Run a module of Modelyard to its end. Raises `RuntimeError` with the end of its log."""
    _run([sys.executable, "-m", module, *arguments], log, environment)


def _run(command: Sequence[str], log: Path, environment: dict[str, str] | None = None) -> None:
    root = Path(__file__).parents[2]
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1", "MODELYARD_DEVICE": "cpu"}
    with log.open("ab") as output:
        env = {**os.environ, **quiet, "CUDA_VISIBLE_DEVICES": "", **(environment or {})}
        done = subprocess.run(command, stdout=output, stderr=output, env=env, cwd=root, timeout=MOST_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{log.read_text(errors='replace')[-3000:]}")
