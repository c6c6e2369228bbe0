"""The most memory a rank took: what a plan predicted is held against it."""

from pathlib import Path
from typing import Any

from modelyard.workers.recipe import Run
from modelyard.workers.training.distributed import device_of_rank

STATUS = Path("/proc/self/status")


def measure_peak(run: Run[Any]) -> int:
    """Return the most bytes any rank has held so far: of its GPU, or of the machine's memory. All ranks call this together."""
    import torch
    import torch.distributed as group

    held = torch.cuda.max_memory_reserved() if run.device == "cuda" else read_host_peak()
    largest = torch.tensor(held, dtype=torch.int64, device=device_of_rank())
    group.all_reduce(largest, op=group.ReduceOp.MAX)
    return int(largest)


def read_host_peak() -> int:
    """Return the most bytes this process has held in memory, by the kernel's count; 0 where it does not say.

    Pages of the libraries that a forked rank shares with its parent count too.
    """
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
