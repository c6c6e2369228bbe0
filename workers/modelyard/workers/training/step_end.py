"""What follows an optimizer step that counts: a validation, a checkpoint, leaving. Importing this imports torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from modelyard.workers.recipe import Run, Stopped
from modelyard.workers.training.checkpoints import Progress
from modelyard.workers.training.distributed import leave_ranks
from modelyard.workers.training.recovery import Recovery
from modelyard.workers.training.saving import Saver


@dataclass(frozen=True)
class Due:
    """What is to be done after a step, the same on every rank."""

    validates: bool
    saves: bool
    leaves: bool
    """The run was asked to stop, or pauses here; the last step needs no leaving."""
    is_last: bool


def find_due(run: Run[Any], step: int, *, stops: bool) -> Due:
    """Say what follows the step that has ended, counted from 1. `stops`: whether the run was asked to stop."""
    spec, pauses, is_last = run.spec, run.pauses_at(step), step == run.spec.steps
    leaves = (stops or pauses) and not is_last
    return Due(
        validates=step % spec.evaluate_every == 0 or is_last or pauses,
        saves=step % spec.save_every == 0 or is_last or leaves,
        leaves=leaves,
        is_last=is_last,
    )


def end_step(progress: Progress, due: Due, loss: float, validate: Callable[[], float], saver: Saver, recovery: Recovery) -> None:
    """Do what is due after a step of this loss. Raises `Stopped` once the state is saved, and what `validate` raises."""
    measured = {"loss": loss}
    if due.validates:
        measured["validation_loss"] = validate()
    if due.saves and (due.is_last or due.leaves or recovery.may_save(progress)):
        saver.save(progress, **measured)
    if due.leaves:
        saver.wait()
        leave_ranks()
        raise Stopped
