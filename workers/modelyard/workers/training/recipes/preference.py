"""Tune a chat model towards preferred answers: DPO, ORPO or KTO, a plain loop over DeepSpeed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from modelyard.domain.specs.preference import PreferenceSpec
from modelyard.workers.dataset import open_dataset
from modelyard.workers.recipe import Run, run_recipe
from modelyard.workers.training.beginning import begin
from modelyard.workers.training.checkpoints import read_progress
from modelyard.workers.training.completions import Example
from modelyard.workers.training.distributed import device_of_rank, leave_ranks, sum_over_ranks
from modelyard.workers.training.flops import Work
from modelyard.workers.training.judged_answers import VALIDATION_CASES, Case, JudgedAnswers, read_judged_answers
from modelyard.workers.training.peak_memory import measure_peak
from modelyard.workers.training.tuned_outputs import Lesson, hand_over
from modelyard.workers.training.tuning_loop import Outcome, tune
from modelyard.workers.training.waiting import WaitClock

OBJECTIVES = {
    "dpo": "direct preference optimization on pairs of answers",
    "orpo": "odds-ratio preference optimization on pairs of answers",
    "kto": "Kahneman-Tversky optimization on answers rated good or not",
}
SETTINGS = {"objective", "beta", "loss", "label_smoothing", "desirable_weight", "undesirable_weight"}


def main(run: Run[PreferenceSpec]) -> None:
    """Train, validate, merge, save. Raises `NotFinite`, `Stopped` (after saving), `BadData` and `MergeFailed`."""
    started = time.monotonic()
    spec = run.spec
    # What can be wrong with the inputs shows here, before seconds of imports.
    model_folder = run.input("model").path
    dataset = open_dataset(run.input("dataset").path, spec.wanted_schema())
    progress = read_progress(run)
    begin(run)

    run.progress(0.0, "tokenizing the answers")
    answers = read_judged_answers(run, dataset, model_folder)
    train = answers.train
    run.progress(progress.step / spec.steps, f"{len(train.cases)} cases, {train.truncated} truncated, {train.dropped} dropped")
    seconds = tune(run, model_folder, lambda engine: Preference(run, engine, answers), answers.tokenizer, progress)

    figures = {
        "steps": spec.steps,
        "cases": len(train.cases),
        "truncated": train.truncated,
        "dropped": train.dropped,
        **{f"{name}_first": round(value, 4) for name, value in progress.first_validation.items()},
        **{name: round(value, 4) for name, value in progress.last_validation.items()},
        "training_seconds": round(seconds, 2),
    }
    if run.rank == 0:
        run.progress(1.0, "writing the model")
        summary = f"Tuned ({spec.method}) by {OBJECTIVES[spec.objective]}."
        settings = spec.model_dump(include=SETTINGS, exclude_defaults=True) | {"objective": spec.objective, "beta": spec.beta}
        sample = answers.heldout.cases[0].first.tokens.tolist()
        hand_over(run, model_folder, Lesson(answers.tokenizer, sample, summary, settings), figures, started)
    run.figures(peak_memory_bytes=measure_peak(run))
    leave_ranks()


@dataclass(frozen=True)
class Preference:
    """Learning which of two answers is the better one, or whether one is good."""

    run: Run[PreferenceSpec]
    engine: Any
    answers: JudgedAnswers
    clock: WaitClock = field(default_factory=WaitClock)

    def learn(self, step: int) -> Sequence[float]:
        """Return this rank's `_Tally`, summed over the rounds."""
        rounds = self.engine.gradient_accumulation_steps()
        tally = [0.0] * len(TALLY)
        self.clock.seconds = 0.0
        trials = (self._lay_out(self.answers.batch(step, round_, self.run.rank)) for round_ in range(rounds))
        for trial in self.clock.watch(trials):
            loss, counted = self._judge(trial)
            # Every round of every rank has as many cases, so the mean that DeepSpeed takes is the mean over all.
            self.engine.backward(loss)
            self.engine.step()
            tally = [old + new for old, new in zip(tally, counted, strict=True)]
        return tally

    def describe(self, step: int, sums: Sequence[float]) -> Outcome:
        """Divide by the cases there were."""
        found, metrics = dict(zip(TALLY, sums, strict=True)), summarize(sums)
        tokens, predictions = int(found["tokens"]), int(found["predictions"])
        # A reference reads everything once more.
        read = 0 if self.run.spec.objective == "orpo" else 1
        work = Work(tokens, predictions, tokens / (2 * found["cases"]), read * tokens, read * predictions)
        return Outcome(metrics.pop("loss"), tokens, metrics, work, self.clock.seconds)

    def rows(self, step: int, rank: int | None) -> list[int]:
        """Return which rows of the training data, those dropped not counted, a rank reads in a step."""
        return self.answers.course.rows(step, rank)

    def validate(self) -> dict[str, float]:
        """Judge held-out cases, shared out over the ranks."""
        run, cases, size = self.run, self.answers.heldout.cases[:VALIDATION_CASES], self.run.spec.micro_batch_size
        tally = [0.0] * len(TALLY)
        for start in range(0, len(cases), size * run.world_size):
            place = start + run.rank * size
            mine = cases[place : place + size]
            # A forward pass may be a collective: a rank with nothing left joins in, and counts nothing.
            _, counted = self._judge(self._lay_out(mine or cases[:1]))
            if mine:
                tally = [old + new for old, new in zip(tally, counted, strict=True)]
        return {f"validation_{name}": value for name, value in summarize(sum_over_ranks(*tally)).items()}

    def _lay_out(self, cases: list[Case]) -> "Trial":
        from modelyard.workers.training.conversation_batch import lay_out

        examples = [case.first for case in cases] + [case.second for case in cases]
        return Trial(cases, examples, lay_out(examples, self.run.spec.packing, device_of_rank()))

    def _judge(self, trial: "Trial") -> tuple[Any, list[float]]:
        """Return the mean loss of some cases, and what they add to the tally."""
        import torch

        from modelyard.workers.training.preference_losses import judge_odds, judge_pairs, judge_ratings

        spec, cases = self.run.spec, trial.cases
        is_good = torch.tensor([case.is_good for case in cases], device=device_of_rank())
        if spec.objective == "orpo":
            verdict = judge_odds(spec, self._score(trial))
        else:
            with torch.no_grad(), self.engine.module.disable_adapter():
                reference = self._score(trial)
            policy = self._score(trial)
            if spec.objective == "dpo":
                verdict = judge_pairs(spec, policy, reference)
            else:
                moved = (policy.second - reference.second).detach().sum()
                total, count = sum_over_ranks(float(moved), float(len(cases)))
                drift = torch.tensor(max(total / count, 0.0), device=device_of_rank())
                verdict = judge_ratings(spec, policy, reference, is_good, drift)
        return verdict.losses.mean(), _count(spec, cases, verdict, is_good)

    def _score(self, trial: "Trial") -> Any:
        import torch

        from modelyard.workers.training.preference_losses import Scores
        from modelyard.workers.training.token_loss import score_answers

        scored = score_answers(self.engine, trial.batch, trial.examples)
        first, second = torch.stack([scores.sum() for scores in scored]).chunk(2)
        lengths = torch.tensor([float(len(scores)) for scores in scored], device=first.device).chunk(2)
        return Scores(first, second, *lengths)


TALLY = ("loss", "chosen", "good", "rejected", "bad", "right", "cases", "tokens", "predictions")
"""What is summed over cases: losses; rewards of good answers and how many there were; of bad ones; right verdicts."""


@dataclass(frozen=True)
class Trial:
    """Cases as they go through the model."""

    cases: list[Case]
    examples: list[Example]
    """All first answers, then all second ones."""
    batch: Any


def _count(spec: PreferenceSpec, cases: list[Case], verdict: Any, is_good: Any) -> list[float]:
    import torch

    margin = verdict.first_rewards - verdict.second_rewards
    if spec.objective == "kto":
        chosen, rejected = verdict.first_rewards[is_good], verdict.first_rewards[~is_good]
        margin = torch.where(is_good, 1.0, -1.0) * margin
    else:
        chosen, rejected = verdict.first_rewards, verdict.second_rewards
    # A model that did not move prefers neither: half right.
    right = (margin > 0).sum() + 0.5 * (margin == 0).sum()
    examples = [each for case in cases for each in (case.first, case.second)]
    tokens, predictions = sum(len(each.tokens) for each in examples), sum(each.predictions for each in examples)
    rewards = chosen.sum(), len(chosen), rejected.sum(), len(rejected)
    sums = (verdict.losses.detach().sum(), *rewards, right, len(cases), tokens, predictions)
    return [float(each) for each in sums]


def summarize(sums: Sequence[float]) -> dict[str, float]:
    """Return the metrics of a tally; rewards of a kind that did not occur are left out."""
    found = dict(zip(TALLY, sums, strict=True))
    metrics = {"loss": found["loss"] / found["cases"], "reward_accuracy": found["right"] / found["cases"]}
    for kind, count in (("chosen", "good"), ("rejected", "bad")):
        if found[count]:
            metrics[f"reward_{kind}"] = found[kind] / found[count]
    if found["good"] and found["bad"]:
        metrics["reward_margin"] = metrics["reward_chosen"] - metrics["reward_rejected"]
    return metrics


if __name__ == "__main__":
    run_recipe(main)
