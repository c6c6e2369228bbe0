"""Making an engine what it was: copies in the machine's memory, through files, as DeepSpeed reads nothing else.

Importing this imports torch.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as group

from modelyard.workers.recipe import Run
from modelyard.workers.training.checkpoints import ENGINE_STATE, Progress
from modelyard.workers.training.distributed import barrier, device_of_rank, ranks_of_machine, share
from modelyard.workers.training.snapshot import wait_for_copies

ROLLBACK_FOLDER = "rollback"
"""Inside the run folder, while it is written and read."""
CHUNK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Held:
    """A state a run can go back to: this rank's part of it."""

    parts: dict[str, Any]
    """Path in a checkpoint -> what DeepSpeed wants written there."""
    copied: Any
    """See `wait_for_copies`."""
    progress: Progress
    at: float
    """When the run was there, or came back there last: seconds since the epoch. Steps since then are lost when it goes back."""


def restore(run: Run[Any], engine: Any, held: Held, *, is_strict: bool) -> None:
    """Load what is held into the engine it was copied from. All ranks together, each with its own part.

    Raises `FileNotFoundError` if DeepSpeed does not find it.
    """
    folder = run.folder / ROLLBACK_FOLDER
    if run.local_rank == 0:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / ENGINE_STATE).mkdir(parents=True)
    barrier()  # nobody writes before the folder is empty
    wait_for_copies(held.copied)
    for path, state in held.parts.items():
        torch.save(state, folder / ENGINE_STATE / os.path.basename(path))
    if ranks_of_machine(run) < run.world_size:
        # Each rank reads what it wrote, and what rank 0 did for all: with parts of matrices, its neighbours too.
        barrier()
        for name in share(sorted(path.name for path in (folder / ENGINE_STATE).glob("mp_rank*"))):
            _spread(run, folder / ENGINE_STATE / name)
    barrier()  # nobody reads before all is written
    path, _ = engine.load_checkpoint(str(folder), tag=ENGINE_STATE, load_module_strict=is_strict)
    if path is None:  # it would say nothing, and leave the weights as they are
        raise FileNotFoundError(f"{folder / ENGINE_STATE} lacks a part of the state to go back to")
    barrier()
    if run.local_rank == 0:
        shutil.rmtree(folder)


def _spread(run: Run[Any], path: Path) -> None:
    """Bring a file that rank 0 has to the other machines. All ranks together."""
    is_writer = run.local_rank == 0 and run.rank != 0
    size = share(path.stat().st_size if run.rank == 0 else None)
    target = path if run.rank == 0 or is_writer else Path(os.devnull)
    with target.open("rb" if run.rank == 0 else "wb") as file:
        for start in range(0, size, CHUNK_BYTES):
            piece = bytearray(min(CHUNK_BYTES, size - start))
            if run.rank == 0:
                file.readinto(piece)  # type: ignore[attr-defined]
            tensor = torch.frombuffer(piece, dtype=torch.uint8).to(device_of_rank())
            group.broadcast(tensor, src=0)
            if is_writer:
                file.write(tensor.cpu().numpy())
