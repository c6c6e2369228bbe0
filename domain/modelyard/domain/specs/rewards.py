"""Rewards that can be checked: each gives an answer points by a rule with a name, and no code of users runs."""

from typing import Annotated, Literal, Self

import regex
from pydantic import Field, field_validator, model_validator

from modelyard.domain.specs.base import SpecModel


class RewardSpec(SpecModel):
    """Points for an answer; what all rewards of a job give is added up."""

    weight: float = 1.0
    """What the points are multiplied with."""


class ExactAnswerReward(RewardSpec):
    """1 for an answer that comes to the problem's own, else 0.

    Compared is what stands in the last `\\boxed{…}`, else the whole answer; where the problem's answer is a number (after the
    last `####`, if there is one), the last number in it.
    """

    name: Literal["exact_answer"]


class ContainsReward(RewardSpec):
    """1 for an answer in which the text stands, whatever its case, else 0."""

    name: Literal["contains"]
    text: str | None = Field(default=None, min_length=1, max_length=1000)
    """Without it, the problem's own answer."""


class RegexReward(RewardSpec):
    """1 for an answer in which the pattern is found, else 0; also 0 where looking takes longer than 50 ms."""

    name: Literal["regex"]
    pattern: str = Field(min_length=1, max_length=500)
    """A pattern of the package `regex`, searched anywhere; `^` and `$` are the ends of the answer."""

    @field_validator("pattern")
    @classmethod
    def _can_be_read(cls, pattern: str) -> str:
        try:
            regex.compile(pattern)
        except regex.error as error:
            raise ValueError(f"{pattern!r} is no pattern: {error}; put a backslash before signs meant as they are") from error
        return pattern


class FormatReward(RewardSpec):
    """1 for an answer with each of the parts exactly once and in this order, else 0."""

    name: Literal["format"]
    parts: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(min_length=1, max_length=20)
    """E.g. `["<think>", "</think>", "<answer>", "</answer>"]`."""


class LengthPenaltyReward(RewardSpec):
    """0 up to `free_tokens`, then down in a straight line to -1 at `max_new_tokens`."""

    name: Literal["length_penalty"]
    free_tokens: int = Field(ge=0)


Reward = Annotated[
    ExactAnswerReward | ContainsReward | RegexReward | FormatReward | LengthPenaltyReward, Field(discriminator="name")
]


class RewardedSpec(SpecModel):
    """How answers are sampled, and what they are rewarded for."""

    rewards: list[Reward] = Field(min_length=1, max_length=10)
    group_size: int = Field(default=8, ge=2, le=10_000)
    """Answers to each problem, which are compared with each other."""
    max_new_tokens: int = Field(default=64, ge=1, le=2**24)
    """Tokens of an answer."""
    temperature: float = Field(default=1.0, gt=0, le=5)

    @model_validator(mode="after")
    def _frees_less_than_there_are(self) -> Self:
        for reward in self.rewards:
            if isinstance(reward, LengthPenaltyReward) and reward.free_tokens >= self.max_new_tokens:
                raise ValueError(
                    f"free_tokens {reward.free_tokens} is not less than max_new_tokens {self.max_new_tokens}, so no answer would "
                    "ever be too long; lower it"
                )
        return self
