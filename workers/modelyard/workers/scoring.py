"""Score one model under one template on chat items: likelihood of the references, and answers of its own."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from modelyard.domain.specs.prompts import Template
from modelyard.workers.conversations import Conversation, apply_template
from modelyard.workers.perplexity import to_perplexity
from modelyard.workers.recipe import NotFinite, Run
from modelyard.workers.statistics import Numbers
from modelyard.workers.text_metrics import exact_match, rouge_l

if TYPE_CHECKING:
    from modelyard.workers.language_model import LanguageModel

SECONDS_BETWEEN_PROGRESS = 0.5


@dataclass
class Scores:
    """What one model reached, item by item, in the order of the items."""

    negative_log_likelihoods: Numbers
    """(items,) nats, summed over the tokens of the reference answer."""
    tokens: Numbers
    """(items,) tokens of the reference answer, its end included."""
    truncated_items: int = 0
    answers: list[str] = field(default_factory=list)
    """Of the first `generate_items` items."""
    rouge_l: Numbers = field(default_factory=lambda: np.empty(0))
    exact_match: Numbers = field(default_factory=lambda: np.empty(0))

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood per token, in nats."""
        return float(self.negative_log_likelihoods.sum() / self.tokens.sum())

    def summary(self) -> dict[str, float]:
        """Return the figures of the whole; ROUGE-L and exact match only if answers were written."""
        figures = {"nll": self.nll, "perplexity": to_perplexity(self.nll), "items": float(len(self.tokens))}
        if self.answers:
            figures |= {"rouge_l": float(self.rouge_l.mean()), "exact_match": float(self.exact_match.mean())}
        return {name: round(value, 6) for name, value in figures.items()}


def score_model(
    model: "LanguageModel",
    items: Sequence[Conversation],
    template: Template | None,
    generate_items: int,
    max_new_tokens: int,
    step: Callable[[int], Any],
) -> Scores:
    """Score the items; `step(count)` is called as items are done, and may raise to leave early.

    Raises `NotFinite` if the model gives no number for an item.
    """
    prompts = [apply_template([*item.messages], template) for item in items]
    scores = Scores(np.zeros(len(items)), np.zeros(len(items)))
    for index, likelihood in model.score_answers(prompts, [item.reference for item in items]):
        scores.negative_log_likelihoods[index], scores.tokens[index] = likelihood.total, likelihood.tokens
        scores.truncated_items += likelihood.truncated
        step(1)
    if not np.isfinite(scores.negative_log_likelihoods).all():
        raise NotFinite("the model gives no finite likelihood for a reference answer: its weights are damaged")
    written = dict[int, str]()
    for index, answer in model.answer_greedily(prompts[:generate_items], max_new_tokens):
        written[index] = answer
        step(1)
    scores.answers = [written[index] for index in sorted(written)]
    pairs = list(zip(scores.answers, [item.reference for item in items], strict=False))
    scores.rouge_l = np.array([rouge_l(answer, reference) for answer, reference in pairs])
    scores.exact_match = np.array([exact_match(answer, reference) for answer, reference in pairs])
    return scores


@dataclass
class Progress:
    """Tells the platform how far the scoring is, and leaves when asked to: nothing here is worth a checkpoint."""

    run: Run[Any]
    total: int
    """Items to score and answers to write, over all models and templates."""
    done: int = 0
    what: str = ""
    told_at: float = 0.0
    """Monotonic seconds. Items end in batches: a line for each would tell the same moment many times."""

    def step(self, count: int) -> None:
        """Count items as done. Raises `Stopped` if the runner wishes so."""
        self.done += count
        if self.done >= self.total or time.monotonic() - self.told_at > SECONDS_BETWEEN_PROGRESS:
            self.run.progress(self.done / self.total, f"{self.what}: {self.done} of {self.total}")
            self.told_at = time.monotonic()
        self.run.leave_if_asked()
