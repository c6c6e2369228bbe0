"""What base and candidate reached on the same items, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelyard.domain.specs.evaluation import EvaluateSpec
from modelyard.workers.conversations import Conversation, last_user_text
from modelyard.workers.recipe import BadData
from modelyard.workers.scoring import Scores
from modelyard.workers.statistics import Interval, bootstrap_gain


@dataclass(frozen=True)
class Comparison:
    """Scores of both models over the same items."""

    items: Sequence[Conversation]
    base: Scores
    candidate: Scores

    @property
    def is_same_tokenization(self) -> bool:
        """Whether both cut every reference into as many tokens; otherwise nats per token mean different things."""
        return bool(np.array_equal(self.base.tokens, self.candidate.tokens))

    def gains(self, spec: EvaluateSpec) -> dict[str, Interval]:
        """Interval of the gain per metric, up is better; metrics that were not measured are absent."""
        found = {}
        if self.is_same_tokenization:
            lower = self.base.negative_log_likelihoods - self.candidate.negative_log_likelihoods
            found["nll"] = self._interval(lower, self.base.tokens, spec)
        if len(self.base.answers) >= 2:
            found["rouge_l"] = self._interval(self.candidate.rouge_l - self.base.rouge_l, None, spec)
            found["exact_match"] = self._interval(self.candidate.exact_match - self.base.exact_match, None, spec)
        return found

    def gate_interval(self, spec: EvaluateSpec) -> Interval:
        """Interval the gate looks at. Raises `BadData` if its metric cannot be compared, with the way out."""
        found = self.gains(spec).get(spec.gate.metric)
        if found is None and spec.gate.metric == "nll":
            raise BadData(
                "base and candidate cut the reference answers into different tokens, so their likelihoods per token "
                "cannot be compared; gate on `rouge_l` or `exact_match`"
            )
        if found is None:
            raise BadData(f"gating on {spec.gate.metric} needs generate_items of 2 or more, not {spec.generate_items}")
        return found

    def rows(self) -> list[dict[str, Any]]:
        """One plain row per item: the question, the reference, and what each model made of it."""
        return [self._row(index, item) for index, item in enumerate(self.items)]

    def _row(self, index: int, item: Conversation) -> dict[str, Any]:
        row: dict[str, Any] = {
            "line": item.position,
            "question": last_user_text([*item.messages]),
            "reference": item.reference,
        }
        for name, scores in (("base", self.base), ("candidate", self.candidate)):
            row[name] = {"nll": float(scores.negative_log_likelihoods[index] / scores.tokens[index])}
            row[name]["tokens"] = int(scores.tokens[index])
            if index < len(scores.answers):
                row[name] |= {"answer": scores.answers[index], "rouge_l": float(scores.rouge_l[index])}
                row[name]["exact_match"] = float(scores.exact_match[index])
        return row

    @staticmethod
    def _interval(gains: np.ndarray, weights: np.ndarray | None, spec: EvaluateSpec) -> Interval:
        return bootstrap_gain(gains, weights, samples=spec.bootstrap_samples, confidence=spec.gate.confidence, seed=spec.seed)
