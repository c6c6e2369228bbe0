"""What log lines and error messages say about the cause of a failure: patterns of the libraries recipes use."""

import re
from collections.abc import Iterable

from modelyard.domain.jobs.lifecycle import Outcome

CAUSES = (
    (Outcome.OOM_GPU, r"(CUDA|HIP|XPU)( error:)? out of memory|\bOutOfMemoryError\b|CUBLAS_STATUS_ALLOC_FAILED"),
    (Outcome.DISK_FULL, r"No space left on device|Disk quota exceeded"),
    (
        Outcome.OOM_HOST,
        # The first is torch's on CPU; a loader's worker dies of the kernel's OOM killer, or of a full /dev/shm.
        r"DefaultCPUAllocator: (can't|not enough)|Cannot allocate memory|std::bad_alloc|^MemoryError\b"
        r"|DataLoader worker .* is killed by signal: (Killed|Bus error)",
    ),
)
"""Outcome -> what shows it. The first that matches counts."""
CONNECTION_LOST = (
    r"gloo/transport/|ProcessGroup(NCCL|Gloo)\b|NCCL error|\bnccl\w*Error\b|Dist(Backend|Network|Store)Error"
    r"|collective operation timeout"
)
"""A rank that lost another one says so: true, and a consequence, unless nobody knows of anything else."""


def find_cause(lines: Iterable[str]) -> tuple[Outcome, str] | None:
    """The first line that shows a cause, and which; None if none does. Pure."""
    for line in lines:
        for outcome, pattern in CAUSES:
            if re.search(pattern, line):  # compiled when first asked, which most runners never do
                return outcome, line.strip()
    return None


def is_connection_lost(text: str) -> bool:
    """Whether a line or message tells of other ranks that went away, which somebody else must have caused."""
    return re.search(CONNECTION_LOST, text) is not None
