"""Give answers their points. Pure: the rules are those of `domain/specs/rewards.py`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import regex

from modelyard.domain.specs.rewards import (
    ContainsReward,
    ExactAnswerReward,
    FormatReward,
    LengthPenaltyReward,
    RegexReward,
    Reward,
    RewardedSpec,
)

PATTERN_SECONDS = 0.05
_BOXED = regex.compile(r"\\boxed\{([^{}]*)\}")
_NUMBER = regex.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-+]?\.\d+")
_AROUND = " \t\r\n.$%"


@dataclass(frozen=True)
class Answer:
    """What a model said to a problem."""

    text: str
    tokens: int
    reference: str
    """The problem's own answer."""


def sum_rewards(spec: RewardedSpec, answer: Answer) -> float:
    """Return all points of an answer."""
    return sum((reward.weight * score_answer(reward, answer, spec.max_new_tokens) for reward in spec.rewards), 0.0)


def score_answer(reward: Reward, answer: Answer, max_new_tokens: int) -> float:
    """Return what one rule says of an answer, before its weight."""
    match reward:
        case ExactAnswerReward():
            return float(comes_to(answer.text, answer.reference))
        case ContainsReward():
            return float((reward.text or answer.reference).casefold() in answer.text.casefold())
        case RegexReward():
            return float(_is_found(reward.pattern, answer.text))
        case FormatReward():
            return float(_has_parts(answer.text, reward.parts))
        case LengthPenaltyReward():
            return -max(0, answer.tokens - reward.free_tokens) / (max_new_tokens - reward.free_tokens)


def comes_to(text: str, reference: str) -> bool:
    """Whether an answer comes to the one that is known: the same number, or the same words."""
    known = reference.rsplit("####", 1)[-1].strip(_AROUND)
    boxed = _BOXED.findall(text)
    said = boxed[-1] if boxed else text
    if _NUMBER.fullmatch(known):
        numbers = _NUMBER.findall(said)
        return bool(numbers) and math.isclose(_value(numbers[-1]), _value(known), rel_tol=1e-9)
    return " ".join(said.strip(_AROUND).casefold().split()) == " ".join(known.casefold().split())


def compare_within_group(rewards: Sequence[float]) -> list[float]:
    """Return how much better each answer of a group is than the group, in standard deviations; 0 where all are the same."""
    mean = sum(rewards) / len(rewards)
    deviation = math.sqrt(sum((each - mean) ** 2 for each in rewards) / (len(rewards) - 1))
    return [(each - mean) / (deviation + 1e-4) for each in rewards]


def _value(number: str) -> float:
    return float(number.replace(",", ""))


def _is_found(pattern: str, text: str) -> bool:
    try:
        return regex.search(pattern, text, timeout=PATTERN_SECONDS) is not None
    except TimeoutError:
        return False


def _has_parts(text: str, parts: Sequence[str]) -> bool:
    places = [text.find(part) for part in parts]
    return all(text.count(part) == 1 for part in parts) and places == sorted(places)
