"""Ranks that wait: forked from a runner that was itself just forked, so that they start while the runner still prepares.

Each waits at a gate, a pipe. What comes through is its environment; nothing but the end means that it is not needed.
"""

import importlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from setproctitle import setproctitle

from modelyard.workers.recipe import run_recipe
from modelyard.workers.runner.forking import ForkedProcess, die_with_parent, fork, send_output_to


@dataclass(frozen=True)
class WaitingRank:
    """A forked rank and the write end of its gate."""

    process: ForkedProcess
    gate: int

    def go(self, environment: dict[str, str]) -> None:
        """Let it work."""
        with os.fdopen(self.gate, "wb") as gate:
            gate.write(json.dumps(environment).encode())


def fork_ranks(module: str, folder: Path, count: int, foreign: tuple[int, ...] = ()) -> list[WaitingRank]:
    """Fork ranks that wait. `foreign`: descriptors of this process that are none of theirs."""
    waiting: list[WaitingRank] = []
    for rank in range(count):
        exit_, entry = os.pipe()
        # A rank must not hold gates open: neither its own, nor those of ranks before it.
        closed = (*foreign, entry, *(each.gate for each in waiting))
        parent = os.getpid()

        def work(rank: int = rank, exit_: int = exit_, closed: tuple[int, ...] = closed, parent: int = parent) -> int:
            return _be_rank(module, folder, rank, exit_, closed, parent)

        waiting.append(WaitingRank(ForkedProcess(fork(work)), entry))
        os.close(exit_)
    return waiting


def _be_rank(module: str, folder: Path, rank: int, gate: int, closed: tuple[int, ...], parent: int) -> int:
    die_with_parent()
    for descriptor in closed:
        os.close(descriptor)
    with os.fdopen(gate, "rb") as entry:
        environment = entry.read()
    if not environment or os.getppid() != parent:
        return 0
    os.environ.clear()
    os.environ.update(json.loads(environment))
    send_output_to(folder / f"rank-{rank}.log")
    setproctitle(f"{module} --run-dir {folder} rank {rank}")
    _wake_libraries()
    recipe = importlib.import_module(module)
    sys.argv = [str(recipe.__file__), "--run-dir", str(folder)]
    run_recipe(recipe.main, folder)
    return 0


def _wake_libraries() -> None:
    """What libraries decided at their import in the parent and must decide anew here, if they were imported at all."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if (random := sys.modules.get("numpy.random")) is not None:
        random.seed()  # else all children would draw the numbers the parent would have drawn
