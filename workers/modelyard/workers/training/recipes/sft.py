"""Fine-tune a chat model on conversations: an adapter or all weights, a plain loop over DeepSpeed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from modelyard.domain.specs.finetuning import FinetuneSpec
from modelyard.workers.dataset import open_dataset
from modelyard.workers.recipe import Run, run_recipe
from modelyard.workers.training.beginning import begin
from modelyard.workers.training.checkpoints import read_progress
from modelyard.workers.training.conversations import Conversations, read_conversations
from modelyard.workers.training.distributed import device_of_rank, leave_ranks, sum_over_ranks
from modelyard.workers.training.flops import Work
from modelyard.workers.training.peak_memory import measure_peak
from modelyard.workers.training.tuned_outputs import Lesson, hand_over
from modelyard.workers.training.tuning_loop import Outcome, tune
from modelyard.workers.training.waiting import WaitClock

LEARNED = {
    "last_answer": "the last answer of each conversation",
    "answers": "every answer of the assistant",
    "all": "every token",
}


def main(run: Run[FinetuneSpec]) -> None:
    """Train, validate, merge, save. Raises `NotFinite`, `Stopped` (after saving), `BadData` and `MergeFailed`."""
    started = time.monotonic()
    spec = run.spec
    # What can be wrong with the inputs shows here, before seconds of imports.
    model_folder = run.input("model").path
    dataset = open_dataset(run.input("dataset").path, "chat")
    progress = read_progress(run)
    begin(run)

    run.progress(0.0, "tokenizing the conversations")
    conversations = read_conversations(run, dataset, model_folder)
    train = conversations.train
    message = f"{len(train.examples)} conversations in {len(conversations.course.groups)} groups, {train.truncated} truncated"
    run.progress(progress.step / spec.steps, message)
    seconds = tune(run, model_folder, lambda engine: Supervision(run, engine, conversations), conversations.tokenizer, progress)

    figures = {
        "steps": spec.steps,
        "conversations": len(train.examples),
        "truncated": train.truncated,
        "dropped": train.dropped,
        "validation_loss_first": round(progress.first_validation_loss or 0.0, 4),
        "validation_loss": round(progress.last_validation_loss or 0.0, 4),
        "training_seconds": round(seconds, 2),
    }
    if run.rank == 0:
        run.progress(1.0, "writing the model")
        summary = f"Fine-tuned ({spec.method}) on {LEARNED[spec.loss_on]}; everything else was context only."
        sample = conversations.heldout.examples[0].tokens.tolist()
        hand_over(run, model_folder, Lesson(conversations.tokenizer, sample, summary, {}), figures, started)
    run.figures(peak_memory_bytes=measure_peak(run))
    leave_ranks()


@dataclass(frozen=True)
class Supervision:
    """Learning the tokens of given answers."""

    run: Run[FinetuneSpec]
    engine: Any
    conversations: Conversations
    clock: WaitClock = field(default_factory=WaitClock)

    def learn(self, step: int) -> Sequence[float]:
        """Return this rank's summed loss and right guesses."""
        from modelyard.workers.training.token_loss import sum_losses

        rounds = self.engine.gradient_accumulation_steps()
        # Every token of the step weighs the same, wherever it lies: DeepSpeed takes the mean over rounds and ranks.
        weight = rounds * self.run.world_size / self.conversations.predictions(step)
        found = []
        self.clock.seconds = 0.0
        batches = (self._lay_out(self.conversations.batch(step, round_, self.run.rank)) for round_ in range(rounds))
        for batch in self.clock.watch(batches):
            loss, correct = sum_losses(self.engine, batch)
            self.engine.backward(loss * weight)
            self.engine.step()
            found.append((loss.detach(), correct))
        # Read only now: reading waits for the GPU, and meanwhile the next round could not be laid out.
        return [sum(map(float, each)) for each in zip(*found, strict=True)]

    def describe(self, step: int, sums: Sequence[float]) -> Outcome:
        """Divide by the tokens that were learned."""
        predictions = self.conversations.predictions(step)
        loss_sum, correct_sum = sums
        metrics = {"mean_token_accuracy": correct_sum / predictions}
        tokens, count = self.conversations.tokens(step), self.conversations.count(step)
        work = Work(tokens, predictions, span=tokens / count)
        return Outcome(loss_sum / predictions, tokens, metrics, work, self.clock.seconds)

    def rows(self, step: int, rank: int | None) -> list[int]:
        """Return which rows of the training data, those dropped not counted, a rank reads in a step."""
        return self.conversations.course.rows(step, rank)

    def validate(self) -> dict[str, float]:
        """Measure the mean loss per learned token of the held-out conversations, shared out over the ranks."""
        from modelyard.workers.training.token_loss import sum_losses

        run, validation = self.run, self.conversations.validation
        totals = [0.0, 0.0, 0.0]
        for start in range(0, len(validation), run.world_size):
            mine = validation[start + run.rank : start + run.rank + 1]
            # Under ZeRO 3 a forward pass is a collective: a rank with nothing left joins in, and counts nothing.
            group = (mine or validation)[0]
            batch = self._lay_out([self.conversations.heldout.examples[number] for number in group])
            loss, correct = sum_losses(self.engine, batch)
            if mine:
                totals = [old + new for old, new in zip(totals, (float(loss), float(correct), len(batch.targets)), strict=True)]
        loss_sum, correct_sum, predictions = sum_over_ranks(*totals)
        return {"validation_loss": loss_sum / predictions, "validation_mean_token_accuracy": correct_sum / predictions}

    def _lay_out(self, examples: Any) -> Any:
        from modelyard.workers.training.conversation_batch import lay_out

        return lay_out(examples, self.run.spec.packing, device_of_rank())


if __name__ == "__main__":
    run_recipe(main)
