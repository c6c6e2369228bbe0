"""Gains of a comparison, and what cannot be compared."""

from math import exp

import numpy as np
import pytest

from modelyard.domain.specs.evaluation import EvaluateSpec
from modelyard.workers.conversations import Conversation
from modelyard.workers.evaluation.comparison import Comparison
from modelyard.workers.evaluation.gate import decide_gate
from modelyard.workers.recipe import BadData
from modelyard.workers.scoring import Scores

ITEMS = [Conversation(n, ({"role": "user", "content": f"q{n}"},), f"a{n}") for n in range(4)]
TOKENS = np.array([1.0, 2.0, 3.0, 4.0])


def spec(metric: str = "nll") -> EvaluateSpec:
    return EvaluateSpec(name="e", base="b", candidate="c", dataset="d", gate={"metric": metric})


def scores(nll_per_token: float, tokens: np.ndarray = TOKENS, rouge: list[float] | None = None) -> Scores:
    made = Scores(nll_per_token * tokens, tokens)
    if rouge is not None:
        made.answers, made.rouge_l, made.exact_match = ["x"] * len(rouge), np.array(rouge), np.zeros(len(rouge))
    return made


class TestGains:
    def test_of_likelihood_is_base_minus_candidate_per_token(self) -> None:
        gain = Comparison(ITEMS, scores(2.0), scores(1.5)).gains(spec())["nll"]
        assert (gain.gain, gain.low, gain.high) == pytest.approx((0.5, 0.5, 0.5))

    def test_of_rouge_is_candidate_minus_base(self) -> None:
        base, candidate = scores(1, rouge=[0.1, 0.2, 0.3]), scores(1, rouge=[0.3, 0.4, 0.5])
        assert Comparison(ITEMS, base, candidate).gains(spec())["rouge_l"].gain == pytest.approx(0.2)

    def test_of_a_model_over_itself_is_nothing_and_does_not_pass(self) -> None:
        comparison = Comparison(ITEMS, scores(2.0, rouge=[0.1, 0.9, 0.3]), scores(2.0, rouge=[0.1, 0.9, 0.3]))
        for metric in ("nll", "rouge_l"):
            interval = comparison.gate_interval(spec(metric))
            assert (interval.low, interval.gain, interval.high) == (0, 0, 0)
            assert not decide_gate(interval, spec(metric).gate).passed

    def test_perplexity_weighs_tokens_not_items(self) -> None:
        made = Scores(np.array([4.0, 2.0]), np.array([1.0, 5.0]))
        assert made.summary()["perplexity"] == pytest.approx(exp(1.0), rel=1e-5)


class TestGateInterval:
    def test_other_tokens_make_likelihoods_incomparable(self) -> None:
        comparison = Comparison(ITEMS, scores(2.0), scores(1.5, TOKENS + 1))
        assert "nll" not in comparison.gains(spec())
        with pytest.raises(BadData, match="different tokens"):
            comparison.gate_interval(spec())

    def test_a_metric_without_answers_says_what_to_set(self) -> None:
        with pytest.raises(BadData, match="generate_items"):
            Comparison(ITEMS, scores(2.0), scores(1.5)).gate_interval(spec("rouge_l"))
