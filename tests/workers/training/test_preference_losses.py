"""Losses over judged answers, against the papers' formulas written with plain numbers."""

from math import exp, log, log1p
from typing import Any

import pytest

from modelyard.domain.specs.preference import PreferenceSpec
from modelyard.workers.training.completions import Example

torch = pytest.importorskip("torch")
from modelyard.workers.training.preference_losses import Scores, judge_odds, judge_pairs, judge_ratings  # noqa: E402

BETA = 0.2
POLICY, REFERENCE, LENGTHS = (-10.0, -14.0), (-11.0, -12.0), (4.0, 7.0)
MARGIN = BETA * ((-10 + 11) - (-14 + 12))


def spec(**changes: Any) -> PreferenceSpec:
    return PreferenceSpec(name="p", model="m", dataset="d", **{"beta": BETA, **changes})


def scores(pair: tuple[float, float]) -> Scores:
    return Scores(*(torch.tensor([each]) for each in (*pair, *LENGTHS)))


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, -log(sigmoid(MARGIN))),
        ({"label_smoothing": 0.1}, -0.9 * log(sigmoid(MARGIN)) - 0.1 * log(sigmoid(-MARGIN))),
        ({"loss": "hinge"}, 1 - MARGIN),
        ({"loss": "ipo"}, (1 / 4 + 2 / 7 - 1 / (2 * BETA)) ** 2),
    ],
)
def test_pairs(options: dict[str, Any], expected: float) -> None:
    verdict = judge_pairs(spec(**options), scores(POLICY), scores(REFERENCE))
    assert float(verdict.losses) == pytest.approx(expected)
    assert float(verdict.first_rewards - verdict.second_rewards) == pytest.approx(MARGIN)


def test_odds() -> None:
    first, second = -10 / 4, -14 / 7
    odds = (first - log1p(-exp(first))) - (second - log1p(-exp(second)))
    verdict = judge_odds(spec(objective="orpo"), scores(POLICY))
    assert float(verdict.losses) == pytest.approx(-first - BETA * log(sigmoid(odds)))


@pytest.mark.parametrize("is_good", [True, False])
def test_ratings(is_good: bool) -> None:
    weights = {"desirable_weight": 2.0, "undesirable_weight": 3.0}
    drift = torch.tensor(0.4)
    verdict = judge_ratings(
        spec(objective="kto", **weights), scores(POLICY), scores(REFERENCE), torch.tensor([is_good]), drift
    )  # fmt: skip
    sign, weight = (1, 2.0) if is_good else (-1, 3.0)
    assert float(verdict.losses) == pytest.approx(weight * (1 - sigmoid(sign * BETA * (1.0 - 0.4))))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "full"}, "choose lora, or objective orpo"),
        ({"objective": "orpo", "loss": "hinge"}, "loss is an option of objective dpo only, and this one is orpo"),
        ({"desirable_weight": 2}, "desirable_weight is an option of objective kto only"),
        ({"loss": "ipo", "label_smoothing": 0.1}, "label_smoothing belongs to loss sigmoid"),
    ],
)
def test_what_contradicts_itself_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        spec(**options)


@pytest.mark.parametrize(
    ("options", "rate"), [({}, 5e-5), ({"method": "full", "objective": "orpo"}, 5e-6), ({"optimizer": {"learning_rate": 1}}, 1)]
)
def test_the_learning_rate_follows_the_method(options: dict[str, Any], rate: float) -> None:
    assert spec(**options).optimizer.learning_rate == rate


def test_cases_are_cut_dropped_and_counted() -> None:
    from modelyard.workers.training.judged_answers import tokenize_cases

    class Words:
        """A word is a token; the rest is what the recipe asks of a tokenizer."""

        chat_template = "any"
        eos_token_id = None

        def apply_chat_template(self, messages: list[dict[str, str]], tokenize: bool, add_generation_prompt: bool = False) -> str:
            return " ".join(message["content"] for message in messages) + (" " if add_generation_prompt else "")

        def __call__(self, texts: list[str], **_: Any) -> dict[str, Any]:
            words = [text.split() for text in texts]
            ids = [[int(word) for word in each] for each in words]
            offsets = [[(2 * place, 2 * place + 1) for place in range(len(each))] for each in words]
            return {"input_ids": ids, "offset_mapping": offsets}

    def row(asked: str, chosen: str, rejected: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": asked}], "chosen": chosen, "rejected": rejected}

    rows = [row("1 2", "3", "4"), row("1 2", "3 4 5", "6"), row("1 2 3", "4", "5"), row("1", "2 3 4", "2 3 5")]
    found = tokenize_cases(rows, Words(), 3)
    assert (found.dropped, found.truncated) == (2, 1)
    tokens = [[example.tokens.tolist() for example in (case.first, case.second)] for case in found.cases]
    assert tokens == [[[1, 2, 3], [1, 2, 4]], [[1, 2, 3], [1, 2, 6]]]
    assert isinstance(found.cases[0].first, Example)
    ratings = [
        {"messages": [*each["messages"], {"role": "assistant", "content": each["chosen"]}], "label": True} for each in rows[:2]
    ]
    case, _ = tokenize_cases(ratings, Words(), 9).cases
    assert (case.first.tokens.tolist(), case.second.tokens.tolist()) == ([1, 2, 3], [1, 2, 3, 4, 5])
