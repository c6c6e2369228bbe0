"""Losses over judged answers, as functions of log-probabilities alone. Importing this imports torch."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from modelyard.domain.specs.preference import PreferenceSpec


@dataclass(frozen=True)
class Scores:
    """What a model thinks of two answers per case. All of shape (cases,)."""

    first: Tensor
    """Log-probability of the whole answer, in nats."""
    second: Tensor
    first_length: Tensor
    """Tokens of the answer."""
    second_length: Tensor

    def per_token(self) -> tuple[Tensor, Tensor]:
        """Return the mean log-probability of a token of either answer."""
        return self.first / self.first_length, self.second / self.second_length


@dataclass(frozen=True)
class Verdict:
    """Of each case the loss, and what was rewarded. All of shape (cases,)."""

    losses: Tensor
    first_rewards: Tensor
    second_rewards: Tensor
    """Of ratings: what the reward is measured against."""


def judge_pairs(spec: PreferenceSpec, policy: Scores, reference: Scores) -> Verdict:
    """Direct preference optimization; the reward is the log-ratio to the reference times beta (arXiv:2305.18290, eq. 7)."""
    first, second = spec.beta * (policy.first - reference.first), spec.beta * (policy.second - reference.second)
    margin = first - second
    if spec.loss == "hinge":
        losses = torch.relu(1 - margin)
    elif spec.loss == "ipo":
        # Per token, as its authors do it, so that long answers do not weigh more.
        ratios = [ours - theirs for ours, theirs in zip(policy.per_token(), reference.per_token(), strict=True)]
        losses = (ratios[0] - ratios[1] - 1 / (2 * spec.beta)) ** 2
    else:
        losses = -(1 - spec.label_smoothing) * logsigmoid(margin) - spec.label_smoothing * logsigmoid(-margin)
    return Verdict(losses, first.detach(), second.detach())


def judge_odds(spec: PreferenceSpec, policy: Scores) -> Verdict:
    """Odds-ratio optimization: the likelihood of the better answer, and the odds of the two (arXiv:2403.07691, eq. 6 and 7)."""
    first, second = policy.per_token()
    log_odds = (first - second) - (_log_of_rest(first) - _log_of_rest(second))
    losses = -first - spec.beta * logsigmoid(log_odds)
    return Verdict(losses, spec.beta * first.detach(), spec.beta * second.detach())


def judge_ratings(spec: PreferenceSpec, policy: Scores, reference: Scores, is_good: Tensor, drift: Tensor) -> Verdict:
    """Kahneman-Tversky optimization: a gain or a loss against how far the model moved on the whole (arXiv:2402.01306, eq. 8).

    `drift`: the mean log-ratio of answers that do not belong to their prompts, not below 0, without a gradient.
    """
    ratio = policy.first - reference.first
    value = torch.sigmoid(torch.where(is_good, 1.0, -1.0) * spec.beta * (ratio - drift))
    weight = torch.where(is_good, spec.desirable_weight, spec.undesirable_weight)
    return Verdict(weight * (1 - value), spec.beta * ratio.detach(), (spec.beta * drift).expand_as(ratio))


def _log_of_rest(log_probability: Tensor) -> Tensor:
    """Return log(1 - p) from log p, exact where p is nearly 0 or 1."""
    return torch.log(-torch.expm1(log_probability))
