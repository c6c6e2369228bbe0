"""Ranks that wait: forked before they are needed, so that their start overlaps with the runner's preparation or lies before it.

Each waits at a gate, a socket. What comes through is its work, its environment and the descriptors it has to hold (slots, the
attempt's sign of life); nothing but the end means that it is not needed.
"""

import importlib
import json
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setproctitle import setproctitle

from modelyard.workers.recipe import run_recipe
from modelyard.workers.runner.forking import ForkedProcess, die_with_parent, fork, send_output_to

MOST_DESCRIPTORS = 253
"""The kernel passes no more at once."""


@dataclass(frozen=True)
class WaitingRank:
    """A forked rank and our side of its gate."""

    process: ForkedProcess
    gate: socket.socket

    def go(self, module: str, folder: Path, rank: int, environment: dict[str, str], descriptors: tuple[int, ...]) -> None:
        """Let it work: run a recipe as one rank in a run folder. It holds the descriptors for as long as it lives."""
        work = {"module": module, "folder": str(folder), "rank": rank, "environment": environment}
        with self.gate as gate:
            socket.send_fds(gate, [b"go"], descriptors)
            gate.sendall(json.dumps(work).encode())


def fork_ranks(count: int, foreign: tuple[int, ...] = ()) -> list[WaitingRank]:
    """Fork ranks that wait. `foreign`: descriptors of this process that are none of theirs, or not yet."""
    waiting: list[WaitingRank] = []
    for _ in range(count):
        entry, exit_ = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        # A rank must not hold gates open: neither its own, nor those of ranks before it.
        closed = (*foreign, entry.fileno(), *(each.gate.fileno() for each in waiting))
        parent = os.getpid()

        def work(exit_: socket.socket = exit_, closed: tuple[int, ...] = closed, parent: int = parent) -> int:
            return _be_rank(exit_, closed, parent)

        waiting.append(WaitingRank(ForkedProcess(fork(work)), entry))
        exit_.close()
    return waiting


def _be_rank(gate: socket.socket, closed: tuple[int, ...], parent: int) -> int:
    die_with_parent()
    for descriptor in closed:
        os.close(descriptor)
    work = _wait_at(gate)
    if work is None or os.getppid() != parent:
        return 0
    module, folder, rank = work["module"], Path(work["folder"]), work["rank"]
    os.environ.clear()
    os.environ.update(work["environment"])
    send_output_to(folder / f"rank-{rank}.log")
    setproctitle(f"{module} --run-dir {folder} rank {rank}")
    _wake_libraries()
    recipe = importlib.import_module(module)
    sys.argv = [str(recipe.__file__), "--run-dir", str(folder)]
    run_recipe(recipe.main, folder)
    return 0


def _wait_at(gate: socket.socket) -> dict[str, Any] | None:
    """What comes through, None if nothing does. Descriptors that come along stay open from here on."""
    with gate:
        begun, *_ = socket.recv_fds(gate, len(b"go"), MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        if not begun:
            return None
        with gate.makefile("rb") as entry:
            text = entry.read()
    work: dict[str, Any] | None = json.loads(text) if text else None
    return work


def _wake_libraries() -> None:
    """What libraries decided at their import in the parent and must decide anew here, if they were imported at all."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if (random := sys.modules.get("numpy.random")) is not None:
        random.seed()  # else all children would draw the numbers the parent would have drawn
