"""Tune a chat model by rewards for answers it samples itself: GRPO, a plain loop over DeepSpeed."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelyard.domain.specs.grpo import GrpoSpec
from modelyard.workers.dataset import open_dataset
from modelyard.workers.recipe import Run, run_recipe
from modelyard.workers.training.beginning import begin
from modelyard.workers.training.checkpoints import read_progress
from modelyard.workers.training.completions import Example
from modelyard.workers.training.distributed import device_of_rank, leave_ranks, sum_over_ranks
from modelyard.workers.training.flops import Work
from modelyard.workers.training.peak_memory import measure_peak
from modelyard.workers.training.problems import VALIDATION_PROBLEMS, Problem, Problems, read_problems
from modelyard.workers.training.rewards import Answer, compare_within_group, sum_rewards
from modelyard.workers.training.tuned_outputs import Lesson, hand_over
from modelyard.workers.training.tuning_loop import Outcome, tune
from modelyard.workers.training.waiting import WaitClock


def main(run: Run[GrpoSpec]) -> None:
    """Train, validate, merge, save. Raises `NotFinite`, `Stopped` (after saving), `BadData` and `MergeFailed`."""
    started = time.monotonic()
    spec = run.spec
    # What can be wrong with the inputs shows here, before seconds of imports.
    model_folder = run.input("model").path
    dataset = open_dataset(run.input("dataset").path, spec.wanted_schema())
    progress = read_progress(run)
    begin(run)

    run.progress(0.0, "tokenizing the problems")
    problems = read_problems(run, dataset, model_folder)
    run.progress(progress.step / spec.steps, f"{len(problems.train)} problems, {problems.dropped} dropped")
    seconds = tune(run, model_folder, lambda engine: Reinforcement(run, engine, problems), problems.tokenizer, progress)

    figures = {
        "steps": spec.steps,
        "problems": len(problems.train),
        "dropped": problems.dropped,
        **{f"{name}_first": round(value, 4) for name, value in progress.first_validation.items()},
        **{name: round(value, 4) for name, value in progress.last_validation.items()},
        "training_seconds": round(seconds, 2),
    }
    if run.rank == 0:
        run.progress(1.0, "writing the model")
        summary = f"Tuned ({spec.method}) by group relative policy optimization: rewards for answers of its own."
        settings = spec.model_dump(include={"group_size", "max_new_tokens", "temperature", "beta", "rewards"})
        hand_over(run, model_folder, Lesson(problems.tokenizer, problems.heldout[0].tokens, summary, settings), figures, started)
    run.figures(peak_memory_bytes=measure_peak(run))
    leave_ranks()


@dataclass(frozen=True)
class Trial:
    """An answer the model gave, as it is learned from."""

    example: Example
    reward: float
    advantage: float
    """How much better it is than the others to its problem."""


TALLY = ("loss", "kl", "learned", "reward", "squares", "answers", "flat", "groups", "tokens")
"""What is summed: over learned tokens, over answers, over groups (`flat`: all answers alike), and all tokens that were read."""


@dataclass(frozen=True)
class Reinforcement:
    """Learning from the better ones of several answers of one's own."""

    run: Run[GrpoSpec]
    engine: Any
    problems: Problems
    clock: WaitClock = field(default_factory=WaitClock)

    def learn(self, step: int) -> Sequence[float]:
        """Answer the problems of the step, then learn from all answers; return this rank's tally."""
        rounds = self.engine.gradient_accumulation_steps()
        trials = [self._try(self.problems.batch(step, round_, self.run.rank)) for round_ in range(rounds)]
        learned = sum(trial.example.predictions for each in trials for trial in each)
        (total,) = sum_over_ranks(float(learned))
        # Every token of the step weighs the same, wherever it lies: DeepSpeed takes the mean over rounds and ranks.
        weight = rounds * self.run.world_size / total
        tally = np.zeros(len(TALLY))
        self.clock.seconds = 0.0
        for each, batch in self.clock.watch((each, self._lay_out(each)) for each in trials):
            loss, divergence = self._judge(each, batch)
            self.engine.backward(loss * weight)
            self.engine.step()
            tally += np.array([float(loss.detach()), divergence, *_count(each, self.run.spec.group_size)])
        return [float(value) for value in tally]

    def describe(self, step: int, sums: Sequence[float]) -> Outcome:
        """Divide by the tokens, answers and groups there were."""
        found = dict(zip(TALLY, sums, strict=True))
        mean = found["reward"] / found["answers"]
        metrics = {
            "reward": mean,
            "reward_std": math.sqrt(max(found["squares"] / found["answers"] - mean**2, 0.0)),
            "answer_tokens": found["learned"] / found["answers"],
            "groups_without_spread": found["flat"] / found["groups"],
        }
        if self.run.spec.beta:
            metrics["kl"] = found["kl"] / found["learned"]
        return Outcome(found["loss"] / found["learned"], int(found["tokens"]), metrics, self._work(found), self.clock.seconds)

    def _work(self, found: dict[str, float]) -> Work:
        tokens, predictions = int(found["tokens"]), int(found["learned"])
        # Sampling reads a problem and its answer once, and so does the base where answers are compared with it.
        reads = 2 if self.run.spec.beta else 1
        return Work(tokens, predictions, tokens / found["answers"], reads * tokens, reads * predictions)

    def rows(self, step: int, rank: int | None) -> list[int]:
        """Return which rows of the training data, those dropped not counted, a rank reads in a step."""
        return self.problems.course.rows(step, rank)

    def validate(self) -> dict[str, float]:
        """Reward the likeliest answer to held-out problems, shared out over the ranks; the loss is what is lost to reward."""
        run, spec = self.run, self.run.spec
        size = spec.micro_batch_size * spec.group_size
        mine = self.problems.heldout[:VALIDATION_PROBLEMS][run.rank :: run.world_size]
        rewards, lengths = 0.0, 0.0
        for start in range(0, len(mine), size):
            chunk = mine[start : start + size]
            for problem, (tokens,) in zip(chunk, self._answer(chunk, 1, None), strict=True):
                rewards += self._reward(problem, tokens)
                lengths += len(tokens)
        reward_sum, length_sum, count = sum_over_ranks(rewards, lengths, float(len(mine)))
        reward = reward_sum / count
        return {"validation_loss": -reward, "validation_reward": reward, "validation_answer_tokens": length_sum / count}

    def _try(self, problems: list[Problem]) -> list[Trial]:
        spec = self.run.spec
        trials = []
        for problem, group in zip(problems, self._answer(problems, spec.group_size, spec.temperature), strict=True):
            rewards = [self._reward(problem, tokens) for tokens in group]
            for tokens, reward, advantage in zip(group, rewards, compare_within_group(rewards), strict=True):
                learned = np.arange(len(problem.tokens) + len(tokens)) >= len(problem.tokens)
                example = Example(np.array(problem.tokens + tokens, dtype=np.int32), learned)
                trials.append(Trial(example, reward, advantage))
        return trials

    def _answer(self, problems: list[Problem], answers: int, temperature: float | None) -> list[list[list[int]]]:
        from modelyard.workers.training.sampling import sample_answers

        prompts, tokenizer = [problem.tokens for problem in problems], self.problems.tokenizer
        return sample_answers(self.engine, tokenizer, prompts, answers, self.run.spec.max_new_tokens, temperature)

    def _reward(self, problem: Problem, tokens: list[int]) -> float:
        text = self.problems.tokenizer.decode(tokens, skip_special_tokens=True)
        return sum_rewards(self.run.spec, Answer(text, len(tokens), problem.answer))

    def _lay_out(self, trials: list[Trial]) -> Any:
        from modelyard.workers.training.conversation_batch import lay_out

        return lay_out([trial.example for trial in trials], self.run.spec.packing, device_of_rank())

    def _judge(self, trials: list[Trial], batch: Any) -> tuple[Any, float]:
        """Return the summed loss of the tokens, and their summed divergence from the base."""
        import torch

        spec = self.run.spec
        policy = torch.cat(self._score(trials, batch))
        advantages = torch.cat([policy.new_full((trial.example.predictions,), trial.advantage) for trial in trials])
        # Answers are learned from once, right after they were given: the ratio is 1, and only its gradient matters.
        losses = -advantages * torch.exp(policy - policy.detach())
        if not spec.beta:
            return losses.sum(), 0.0
        with torch.no_grad(), self.engine.module.disable_adapter():
            gap = torch.cat(self._score(trials, batch))
        gap = gap - policy
        # Never negative, and without bias (Schulman 2020, http://joschu.net/blog/kl-approx.html, k3).
        divergence = torch.exp(gap) - gap - 1
        return (losses + spec.beta * divergence).sum(), float(divergence.detach().sum())

    def _score(self, trials: list[Trial], batch: Any) -> tuple[Any, ...]:
        from modelyard.workers.training.token_loss import score_answers

        return score_answers(self.engine, batch, [trial.example for trial in trials], self.run.spec.temperature)


def _count(trials: list[Trial], group_size: int) -> list[float]:
    """Return what trials add to the tally, from `learned` on."""
    rewards = np.array([trial.reward for trial in trials])
    groups = rewards.reshape(-1, group_size)
    learned = sum(trial.example.predictions for trial in trials)
    tokens = sum(len(trial.example.tokens) for trial in trials)
    flat = int((groups.max(axis=1) == groups.min(axis=1)).sum())
    return [learned, float(rewards.sum()), float((rewards**2).sum()), len(trials), flat, len(groups), tokens]


if __name__ == "__main__":
    run_recipe(main)
