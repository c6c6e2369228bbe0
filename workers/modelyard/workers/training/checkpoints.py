"""What every training checkpoint holds beside DeepSpeed's state: where the run stood, and how many ranks wrote it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from modelyard.kit.storage import verify_manifest
from modelyard.workers.recipe import BadData, Run
from modelyard.workers.training.skipping import data_step_of
from modelyard.workers.training.tensor_parallel import ranks_per_matrix

PROGRESS_FILE = "progress.json"
ENGINE_STATE = "state"
"""Folder of DeepSpeed's part inside a checkpoint."""


@dataclass
class Progress:
    """Where a run stands: all that a loop remembers between steps."""

    step: int = 0
    """Optimizer steps done."""
    first_validation_loss: float | None = None
    last_validation_loss: float | None = None
    first_validation: dict[str, float] = field(default_factory=dict)
    """All metrics of the first validation, the loss among them."""
    last_validation: dict[str, float] = field(default_factory=dict)
    world_size: int = 1
    zero_stage: int | None = None
    """None in checkpoints of versions that did not note it: then it is the run's own."""
    tensor_parallel_size: int = 1
    sequences_per_step: int | None = None
    """Over all ranks; kept when a run continues on another number of them."""
    skipped: list[list[int]] = field(default_factory=list)
    """Data steps left out, as spans of first and last; see `skipping`."""
    rollbacks: int = 0
    """How often the run went back to an earlier state of its own."""
    losses: list[float] = field(default_factory=list)
    """The newest losses, which others are compared with; see `recovery_policy`."""
    high_losses: list[float] = field(default_factory=list)
    """Those since the loss rose."""

    @property
    def data_step(self) -> int:
        """Which data the next step reads."""
        return data_step_of(self.step, self.skipped)


def write_progress(folder: Path, progress: Progress) -> None:
    """Put the progress beside the state it belongs to."""
    (folder / PROGRESS_FILE).write_text(json.dumps(asdict(progress)), encoding="utf-8")


def read_progress(run: Run[Any]) -> Progress:
    """Return where the run resumes; a fresh start without `run.resume_from`. Called before the ranks join.

    Takes as many sequences per step as whoever began the run, however many ranks do it now, unless the spec gives their number.
    Raises `DamagedArtifact` if the checkpoint is not what was written.
    """
    if run.resume_from is None:
        return Progress(world_size=run.world_size, sequences_per_step=run.spec.sequences_per_step(run.world_size))
    if run.local_rank == 0:
        # DeepSpeed's files are pickles, read only if they are the ones we wrote. No rank reads them before the first
        # of each machine has joined, so one look there is enough.
        verify_manifest(run.resume_from)
    progress = Progress(**json.loads((run.resume_from / PROGRESS_FILE).read_text(encoding="utf-8")))
    _keep_batch(run, progress)
    return progress


def _keep_batch(run: Run[Any], progress: Progress) -> None:
    begun_with = progress.sequences_per_step
    if begun_with is not None and run.spec.global_batch_size is None:
        run.spec = run.spec.model_copy(update={"global_batch_size": begun_with, "gradient_accumulation_steps": 1})
    progress.sequences_per_step = run.spec.sequences_per_step(run.world_size)


def load_state(run: Run[Any], engine: Any, progress: Progress, *, is_strict: bool = True) -> None:
    """Make the engine what it was at `run.resume_from`, whatever ranks and ZeRO stage wrote that. All ranks together."""
    stage = engine.zero_optimization_stage()
    if run.resume_from is not None:
        run.phase("load")
        if _is_readable_as_it_is(progress, run.world_size, engine):
            engine.load_checkpoint(str(run.resume_from), tag=ENGINE_STATE, load_module_strict=is_strict)
        else:
            _reshard(run.resume_from / ENGINE_STATE, engine, progress)
    progress.world_size, progress.zero_stage, progress.tensor_parallel_size = run.world_size, stage, ranks_per_matrix(engine)


def _is_readable_as_it_is(progress: Progress, ranks: int, engine: Any) -> bool:
    stage = engine.zero_optimization_stage()
    is_same_stage = progress.zero_stage in {None, stage} and progress.tensor_parallel_size == ranks_per_matrix(engine)
    return is_same_stage and (progress.world_size == ranks or not is_divided(engine))


def is_divided(engine: Any) -> bool:
    """Whether each rank keeps a part of the optimizer's state: under ZeRO, and in 16 bits."""
    return hasattr(engine.optimizer, "dp_process_group") or bool(engine.fp16_enabled())


def _reshard(folder: Path, engine: Any, progress: Progress) -> None:
    from modelyard.workers.training.resharding import load_whole_state, read_whole_state

    if engine.fp16_enabled() and 0 in {engine.zero_optimization_stage(), progress.zero_stage}:
        raise BadData(
            f"an fp16 checkpoint of {progress.world_size} ranks under zero_stage {progress.zero_stage} cannot be continued by "
            f"other ranks or under zero_stage {engine.zero_optimization_stage()}: without ZeRO its scale is kept in another way; "
            f"take {progress.world_size} slots and zero_stage {progress.zero_stage}"
        )
    parts = ranks_per_matrix(engine)
    if max(parts, progress.tensor_parallel_size) > 1:
        raise BadData(
            f"a checkpoint of {progress.world_size} ranks with tensor_parallel_size {progress.tensor_parallel_size} under "
            f"zero_stage {progress.zero_stage} cannot be continued with tensor_parallel_size {parts} by other ranks or under "
            "another zero_stage; take those"
        )
    load_whole_state(engine, read_whole_state(folder))
