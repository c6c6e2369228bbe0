"""Saves checkpoints while training goes on: a copy in host memory between two steps, files written by a thread.

Importing this imports torch and DeepSpeed.
"""

import os
import shutil
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointCommitInfo
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

from modelyard.workers.recipe import NotFinite, Run, Stopped
from modelyard.workers.training.checkpoints import ENGINE_STATE, Progress, is_divided, write_progress
from modelyard.workers.training.distributed import barrier, ranks_of_machine
from modelyard.workers.training.resharding import NAMES, names_by_group
from modelyard.workers.training.restoring import ROLLBACK_FOLDER, Held, restore
from modelyard.workers.training.snapshot import Snapshots, mark_copies, wait_for_copies

PATIENCE_SECONDS = 900.0
"""How long the first rank of a machine waits for the files of the others, before it calls the checkpoint lost."""
LOOK_SECONDS = 0.02
WRITER_NICENESS = 10
"""On CPUs the steps go first."""


@dataclass(frozen=True)
class Return:
    """Where a run went back to, and the stretch of time whose steps are lost by it, in seconds since the epoch."""

    progress: Progress
    lost_from: float
    lost_until: float


class Saver:
    """Saves one engine's state, one checkpoint at a time. Use as a context manager around the loop.

    A checkpoint appears when all ranks of the machine have written their part, or never.
    """

    def __init__(self, run: Run[Any], engine: Any, *, exclude_frozen: bool = False, files: dict[str, str] | None = None) -> None:
        """`exclude_frozen`: leave out weights that do not learn. `files`: texts that belong into each checkpoint, by name."""
        self._run, self._engine, self._exclude_frozen, self._files = run, engine, exclude_frozen, files or {}
        self._names = {} if is_divided(engine) else {NAMES: names_by_group(engine)}
        self._copier = _CopyingEngine()
        engine.checkpoint_engine = self._copier
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoints", initializer=_stand_back)
        self._pending: Future[Path] | None = None
        self._held: Held | None = None

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None or isinstance(error, Stopped | NotFinite):
            self.wait()
        self._writer.shutdown(wait=False)

    def save(self, progress: Progress, **metrics: float) -> None:
        """Begin a checkpoint of the state as it is now; all ranks together. Waits for the one before, and for nothing else.

        Raises what went wrong with the one before.
        """
        self.wait()
        self._run.phase("save")
        began_at = time.time()
        folder = self._run.begin_checkpoint(progress.step)
        if self._run.local_rank == 0:
            _marks_of(folder).mkdir(exist_ok=True)
        barrier()  # the first rank of a machine has emptied the folder; nobody may write before that
        held = self._copy(folder, progress)
        self._pending = self._writer.submit(self._write, folder, held, began_at, metrics)
        self._run.phase("step")

    def hold(self, progress: Progress) -> None:
        """Keep the state as it is now to go back to, without a checkpoint; all ranks together."""
        self.wait()
        folder = self._run.folder / ROLLBACK_FOLDER
        folder.mkdir(exist_ok=True)  # DeepSpeed puts a script there, whatever the engine for checkpoints does
        self._copy(folder, progress)
        if self._run.local_rank == 0:
            shutil.rmtree(folder)

    def go_back(self) -> Return:
        """Make the engine what it was when it was last saved or held; return where it stood. All ranks together."""
        self.wait()
        assert self._held is not None, "nothing was saved or held"
        self._run.phase("load")
        restore(self._run, self._engine, self._held, is_strict=not self._exclude_frozen)
        self._run.phase("step")
        lost_from = self._held.at
        self._held = replace(self._held, at=time.time())
        return Return(self._held.progress, lost_from, self._held.at)

    def _copy(self, folder: Path, progress: Progress) -> Held:
        """Copy the state into memory; the copy before is gone."""
        self._held = None
        self._engine.save_checkpoint(
            str(folder), ENGINE_STATE, self._names, save_latest=False, exclude_frozen_parameters=self._exclude_frozen
        )
        self._held = Held(self._copier.hand_over(), mark_copies(), replace(progress), time.time())
        return self._held

    def wait(self) -> None:
        """Wait until the checkpoint under way is whole. Raises what went wrong with it."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._run.phase("save")
            pending.result()

    def _write(self, folder: Path, held: Held, began_at: float, metrics: dict[str, float]) -> Path:
        wait_for_copies(held.copied)
        for path, state in held.parts.items():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            torch.save(state, path)
        if self._run.rank == 0:
            for name, text in self._files.items():
                (folder / name).write_text(text, encoding="utf-8")
            write_progress(folder, held.progress)
        return self._publish(folder, held.progress.step, began_at, metrics)

    def _publish(self, folder: Path, step: int, began_at: float, metrics: dict[str, float]) -> Path:
        """Say that this rank's part is there; the first rank of the machine makes the whole appear."""
        # By files, not by a collective: two threads of a process must not use one group of ranks.
        marks = _marks_of(folder)
        (marks / str(self._run.local_rank)).touch()
        if self._run.local_rank == 0:
            _wait_for_marks(marks, ranks_of_machine(self._run))
            shutil.rmtree(marks)
            self._run.publish_checkpoint(step, began_at, **metrics)
        return self._run.checkpoint_folder(step)


class _CopyingEngine(TorchCheckpointEngine):
    """What DeepSpeed hands its states to: keeps copies instead of writing files."""

    def __init__(self) -> None:
        super().__init__()
        self._snapshots = Snapshots()
        self._parts: dict[str, Any] = {}

    def save(self, state_dict: Any, path: str) -> None:
        # The place in the checkpoint, not the checkpoint's own: the next one uses the same memory.
        self._parts[path] = self._snapshots.take(os.path.basename(path), state_dict)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Leave it to who writes."""

    def preserves_storage_sharing(self) -> bool:
        # Else DeepSpeed copies first what is copied here.
        return False

    def commit(self, info: CheckpointCommitInfo) -> bool:
        return True

    def hand_over(self) -> dict[str, Any]:
        """Return what was copied since the last time: path -> state."""
        parts, self._parts = self._parts, {}
        return parts


def _marks_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-marks")


def _wait_for_marks(folder: Path, ranks: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(list(folder.iterdir())) < ranks:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{folder} has the marks of fewer than {ranks} ranks after {PATIENCE_SECONDS:.0f} s")
        time.sleep(LOOK_SECONDS)


def _stand_back() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), WRITER_NICENESS)
