"""The processes that do the work: one per slot, started as torchrun would, and gone as soon as their runner is."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
SECRETS = ("MODELYARD_DATABASE_URL", "MODELYARD_REDIS_URL", "MODELYARD_API_KEY", "MODELYARD_FLOWER_", "AWS_", "PG")
"""Beginnings of the names of variables a recipe has no use for."""
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Launch:
    """Everything needed to start the ranks of one attempt."""

    module: str
    folder: Path
    slots: tuple[str, ...]
    """`cpu-0`, `gpu-3`, … one rank each."""
    descriptors: tuple[int, ...]
    cache: Path
    is_online: bool = False
    """Whether the recipe may fetch from the model hub."""


@dataclass
class Ranks:
    """The rank processes of one attempt."""

    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

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
        for _ in range(10):
            family = psutil.Process().children(recursive=True)
            if not family:
                break
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(family, timeout=5)
        for rank in self.processes:
            rank.wait()


def adopt_orphans() -> None:
    """Make grandchildren whose parent died children of this process, so that `kill` finds them."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start_ranks(launch: Launch) -> Ranks:
    """Start one process per slot with the `torch.distributed` environment."""
    port = _free_port()
    return Ranks([_start_rank(launch, rank, port) for rank in range(len(launch.slots))])


def _start_rank(launch: Launch, rank: int, port: int) -> subprocess.Popen[bytes]:
    with (launch.folder / f"rank-{rank}.log").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", launch.module, "--run-dir", str(launch.folder)],
            env=_environment(launch, rank, port),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=launch.descriptors,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one prctl call that takes no lock
        )


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _environment(launch: Launch, rank: int, port: int) -> dict[str, str]:
    on_gpu = launch.slots[0].startswith("gpu")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SECRETS)}
    return {
        **kept,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(len(launch.slots)),
        "LOCAL_WORLD_SIZE": str(len(launch.slots)),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "MODELYARD_DEVICE": "cuda" if on_gpu else "cpu",
        "CUDA_VISIBLE_DEVICES": ",".join(slot.split("-")[1] for slot in launch.slots) if on_gpu else "",
        # Ranks that share cores and each use all of them slow each other down many times over.
        "OMP_NUM_THREADS": kept.get("OMP_NUM_THREADS") or str(_threads_per_rank(len(launch.slots))),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        "HF_HOME": str(launch.cache / "huggingface"),
        "HF_HUB_OFFLINE": "0" if launch.is_online else "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def _threads_per_rank(ranks: int) -> int:
    return max(1, (os.cpu_count() or 1) // max(2, ranks))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_change(ranks: Ranks, seconds: float) -> None:
    """Return after so long, or as soon as a rank ends."""
    deadline = time.monotonic() + seconds
    before = ranks.exit_codes()
    while time.monotonic() < deadline and ranks.exit_codes() == before and not ranks.is_over():
        time.sleep(min(0.05, seconds))
