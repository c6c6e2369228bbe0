"""Spec of the evaluation stage."""

from typing import Literal

from pydantic import Field

from modelyard.domain.specs.base import DatasetRef, JobSpec, ModelRef, PromptRef, Seed, SpecModel
from modelyard.domain.specs.data import Name


class GateSpec(SpecModel):
    """When the candidate may go on: the confidence interval of its gain over the base must lie above `min_gain`."""

    metric: Literal["nll", "rouge_l", "exact_match"] = "nll"
    """`nll`: mean negative log-likelihood per token of the reference answer (its exponential is the perplexity)."""
    min_gain: float = 0.0
    """In the metric's own unit; for `nll` the gain is base minus candidate, otherwise candidate minus base."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)


class EvaluateSpec(JobSpec):
    """Compare a candidate with its base on the same held-out items, and decide the gate."""

    kind: Literal["evaluate"] = "evaluate"
    name: Name
    base: ModelRef
    candidate: ModelRef
    dataset: DatasetRef
    prompt: PromptRef | None = None
    """Template to ask with; without it the user's words go in as they are."""
    items: int = Field(default=64, ge=2)
    generate_items: int = Field(default=16, ge=0)
    max_new_tokens: int = Field(default=24, ge=1)
    bootstrap_samples: int = Field(default=2000, ge=100)
    """Resamples of the paired bootstrap (Efron & Tibshirani 1993; Koehn 2004)."""
    gate: GateSpec = GateSpec()
    seed: Seed = 17
