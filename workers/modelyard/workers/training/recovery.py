"""Going back within a run: the state of the last checkpoint again, and on without the data that broke it."""

import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from modelyard.workers.recipe import NotFinite, Run
from modelyard.workers.training.checkpoints import Progress
from modelyard.workers.training.distributed import sum_over_ranks
from modelyard.workers.training.finiteness import are_weights_finite
from modelyard.workers.training.recovery_policy import History, Reading, Verdict, judge
from modelyard.workers.training.saving import Saver
from modelyard.workers.training.skipping import add_span, data_step_of

ROWS_TOLD = 50
ROWS_NAMED = 8
RowsOf = Callable[[int, int | None], list[int]]
"""(data step, rank or None for all) -> the numbers of the rows that were read, from 0."""


class Recovery:
    """Judges every step of a run, on all ranks alike; created once, beside the saver."""

    def __init__(self, run: Run[Any], engine: Any, saver: Saver, rows_of: RowsOf, progress: Progress) -> None:
        """Keep the state as it is: that is where the run goes back to before it has saved one. All ranks together."""
        self._run, self._engine, self._saver, self._rows_of = run, engine, saver, rows_of
        self._spec = run.spec.recovery
        if self._spec.may_roll_back() and progress.step < run.spec.steps:
            saver.hold(progress)

    def goes_back(self, progress: Progress, loss: float, gradient_norm: float, *, is_own_finite: bool, is_due: bool) -> bool:
        """Judge the step that was done. True if the run went back: then nothing of the step counts any more.

        `is_own_finite`: whether this rank's part of the loss is. `is_due`: whether a validation or a checkpoint follows, of
        which no weight may be other than finite. Raises `NotFinite`.
        """
        are_finite = not is_due or are_weights_finite(self._engine)
        reading = Reading(loss, gradient_norm, are_finite, scales_loss=self._run.spec.precision == "fp16")
        history = History(tuple(progress.losses), tuple(progress.high_losses), progress.rollbacks)
        verdict = judge(self._spec, history, reading)
        progress.losses, progress.high_losses = list(verdict.history.losses), list(verdict.history.high)
        if verdict.action == "go_on":
            return False
        if verdict.action == "note":
            self._tell("loss_spike", f"{verdict.why}, at step {progress.step}", step=progress.step, why=verdict.why)
            return False
        rank = self._find_rank(is_own_finite)
        first = data_step_of(progress.step - verdict.bad_steps, progress.skipped)
        last = data_step_of(progress.step - 1, progress.skipped)
        rows = [row for step in range(first, last + 1) for row in self._rows_of(step, rank)]
        if verdict.action == "fail":
            raise NotFinite(self._describe(progress, verdict, rank, rows))
        self._go_back(progress, verdict, (first, last), rank, rows)
        return True

    def may_save(self, progress: Progress) -> bool:
        """Whether the state is one to go back to: not while the loss is high, which may turn out to be a spike."""
        return not progress.high_losses or self._spec.on_spike != "roll_back"

    def _find_rank(self, is_own_finite: bool) -> int | None:
        """The first rank whose own loss is not finite; None if all are."""
        run = self._run
        marks = [float(rank == run.rank and not is_own_finite) for rank in range(run.world_size)]
        return next((rank for rank, mark in enumerate(sum_over_ranks(*marks)) if mark), None)

    def _go_back(self, progress: Progress, verdict: Verdict, bad: tuple[int, int], rank: int | None, rows: list[int]) -> None:
        broke_at = progress.step
        back = self._saver.go_back()
        held = back.progress
        # What lies before the state is learned already. It can be in a spike where the run was stopped in the midst of one.
        first = max(bad[0], data_step_of(held.step, progress.skipped))
        last = max(bad[1], first + self._spec.skip_steps - 1)
        kept = {"skipped": add_span(progress.skipped, [first, last]), "rollbacks": progress.rollbacks + 1}
        for each in fields(Progress):
            setattr(progress, each.name, kept.get(each.name, getattr(held, each.name)))
        self._run.figures(rollbacks=progress.rollbacks)  # first: the ledger looks for the event where it finds the figure
        self._tell(
            "rolled_back",
            f"{verdict.why} at step {broke_at}{_place(rank)}: back at step {held.step}; the data of steps {first + 1} to "
            f"{last + 1} are left out (rollback {progress.rollbacks} of at most {self._spec.max_rollbacks})",
            from_step=broke_at, to_step=held.step, why=verdict.why, rank=rank, rows=rows[:ROWS_TOLD],
            skipped_data_steps=[first + 1, last + 1], rollbacks=progress.rollbacks, max_rollbacks=self._spec.max_rollbacks,
            lost_from=back.lost_from, lost_until=back.lost_until,
        )  # fmt: skip

    def _describe(self, progress: Progress, verdict: Verdict, rank: int | None, rows: list[int]) -> str:
        named = ", ".join(map(str, rows[:ROWS_NAMED])) + (", …" if len(rows) > ROWS_NAMED else "")
        before = f"rolled back {progress.rollbacks} times before; " if progress.rollbacks else ""
        return (
            f"{verdict.why} at step {progress.step}{_place(rank)}, which read the rows {named} of the training data; {before}"
            f"lower learning_rate {self._run.spec.optimizer.learning_rate}, look at these rows, "
            f"or raise recovery.max_rollbacks {self._spec.max_rollbacks}"
        )

    def _tell(self, event: str, line: str, **data: Any) -> None:
        self._run.emit(event, **data)
        if self._run.rank == 0:
            print(line, file=sys.stderr, flush=True)  # noqa: T201 - a recipe's log is its standard error


def _place(rank: int | None) -> str:
    return "" if rank is None else f", first on rank {rank}"
