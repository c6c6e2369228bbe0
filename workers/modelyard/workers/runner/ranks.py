"""The processes that do the work: one per slot, started as torchrun would, and gone as soon as their runner is."""

import contextlib
import ctypes
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from modelyard.kit.cgroups import ControlGroup, make_group
from modelyard.workers.runner.forking import ForkedProcess, die_with_parent
from modelyard.workers.runner.rank_environment import Launch, environment_of
from modelyard.workers.runner.waiting import WaitingRank

PR_SET_CHILD_SUBREAPER = 36
GLANCE_SECONDS = 0.05
"""How often one asks whether it is enough: a wish to stop has no descriptor to wait for."""
GROUP_PREFIX = "modelyard-"
"""How the names of control groups of ranks begin."""
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Ranks:
    """The rank processes of one attempt."""

    processes: Sequence[subprocess.Popen[bytes] | ForkedProcess] = ()
    waiting: Sequence[WaitingRank] = ()
    """Forked ahead, not yet told to work."""
    group: ControlGroup | None = None
    """Holds the ranks and all they start, where this machine lets us make one."""

    def start(self, launch: Launch) -> None:
        """Start one process per slot with the `torch.distributed` environment; those that wait already are let go."""
        port = launch.group.port or free_port()
        if self.waiting:
            for number, rank in enumerate(self.waiting):
                rank.go(launch.module, launch.folder, number, environment_of(launch, number, port), launch.descriptors)
            self.waiting = ()
        else:
            self.processes = [_start_rank(launch, rank, port) for rank in range(len(launch.slots))]
        self._gather(group_name(launch.folder))

    def _gather(self, name: str) -> None:
        """Put the ranks into a control group of their own, where that is possible."""
        group = make_group(name)
        if group is None:
            return
        try:
            for process in self.processes:
                group.add(process.pid)
            self.group = group
        except OSError:  # one has ended, or moving is not allowed: the tree of processes has to do
            group.remove()

    def exit_codes(self) -> list[int | None]:
        """One per rank; None while it lives."""
        return [process.poll() for process in self.processes]

    def is_over(self) -> bool:
        """Whether all ranks ended."""
        return all(code is not None for code in self.exit_codes())

    def has_failure(self) -> bool:
        """Whether a rank ended badly, so that the others wait for it in vain."""
        return any(code not in {None, 0, 75} for code in self.exit_codes())

    def kill(self) -> None:
        """End every process below this runner, and wait until none is left."""
        if self.group is not None:
            self.group.kill()
        for _ in range(10):
            family = psutil.Process().children(recursive=True)
            if not family:
                break
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            for rank in self.processes:
                rank.wait()  # before psutil waits too: who reaps a child takes its exit code along
            psutil.wait_procs(family, timeout=5)

    def count_oom_kills(self) -> int:
        """How many of their processes the kernel killed for want of memory, where it counts them."""
        return self.group.count_oom_kills() if self.group else 0

    def let_go(self) -> None:
        """Remove their control group; they have been killed before."""
        if self.group is not None:
            self.group.remove()


def group_name(run_folder: Path) -> str:
    """The control group of the ranks that work in a run folder."""
    return GROUP_PREFIX + "-".join(run_folder.parts[-3:])


def wait_at_gates(waiting: Sequence[WaitingRank]) -> Ranks:
    """Ranks that were forked ahead."""
    return Ranks([rank.process for rank in waiting], waiting)


def adopt_orphans() -> None:
    """Make grandchildren whose parent died children of this process, so that `kill` finds them."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _start_rank(launch: Launch, rank: int, port: int) -> subprocess.Popen[bytes]:
    with (launch.folder / f"rank-{rank}.log").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", launch.module, "--run-dir", str(launch.folder)],
            env=environment_of(launch, rank, port),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=launch.descriptors,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call that takes no lock
        )


def free_port(address: str = "127.0.0.1") -> int:
    """A port of an address of this machine nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def wait_for_change(ranks: Ranks, seconds: float, is_enough: Callable[[], bool] = lambda: False) -> None:
    """Return after so long, as soon as a rank ends, or soon after `is_enough` says so."""
    poll = select.poll()
    living: list[int] = []
    deadline = time.monotonic() + seconds
    try:
        for process in ranks.processes:
            if process.poll() is None:
                living.append(os.pidfd_open(process.pid))
                poll.register(living[-1], select.POLLIN)
        while living and not is_enough() and (left := deadline - time.monotonic()) > 0:
            if poll.poll(1000 * min(GLANCE_SECONDS, left)):
                break
    except ProcessLookupError:
        return  # it ended, and another thread took notice, while we looked
    finally:
        for descriptor in living:
            os.close(descriptor)
