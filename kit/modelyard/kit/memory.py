"""How much memory a machine has: of its own, as far as a control group lets this process use it, and of each of its GPUs."""

import contextlib
import shutil
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path

import psutil

from modelyard.kit.cgroups import read_own_group

QUERY = ("--query-gpu=index,memory.total", "--format=csv,noheader,nounits")


def read_host_memory() -> int:
    """Bytes of memory processes of this machine may use: what is built in, or less where a control group limits it."""
    limits = [limit for folder in _own_groups() if (limit := _read_limit(folder / "memory.max")) is not None]
    return min([psutil.virtual_memory().total, *limits])


def read_gpu_memory(indices: Collection[int]) -> int | None:
    """Bytes of memory of the smallest of these GPUs; None without any, or where the NVIDIA driver does not say."""
    tool = shutil.which("nvidia-smi") if indices else None
    if tool is None:
        return None
    try:
        listing = subprocess.run([tool, *QUERY], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return min((size for index, size in parse_gpu_memory(listing).items() if index in indices), default=None)


def parse_gpu_memory(listing: str) -> dict[int, int]:
    """Index -> bytes, from lines `0, 81559` in MiB; lines of other kinds are passed over. Pure."""
    pairs = (line.split(",") for line in listing.splitlines())
    numbers = ([part.strip() for part in pair] for pair in pairs)
    return {int(pair[0]): int(pair[1]) * 2**20 for pair in numbers if len(pair) == 2 and all(map(str.isdigit, pair))}


def _own_groups() -> Iterator[Path]:
    """This process's group and those above it: each may set a limit."""
    own = read_own_group()
    if own is not None:
        yield from (own, *own.parents)


def _read_limit(file: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(file.read_text())  # `max` is no limit
    return None
