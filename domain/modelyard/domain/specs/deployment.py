"""Spec of the deployment stage."""

from typing import Literal

from pydantic import Field

from modelyard.domain.specs.base import EvaluationRef, JobSpec, ModelRef, PromptRef
from modelyard.domain.specs.data import Name


class DeploySpec(JobSpec):
    """Serve a model under a name that clients put in `model` of `POST /v1/chat/completions`."""

    kind: Literal["deploy"] = "deploy"
    name: Name
    model: ModelRef
    gate: EvaluationRef | None = None
    """An evaluation whose gate must have passed, of this very model."""
    prompt: PromptRef | None = None
    """Template put around the conversation: its system text is added where the client sent none."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Upper limit for one answer."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    ready_within_seconds: int = Field(default=300, ge=1)

    def is_reproducible(self) -> bool:
        """A server is no output: it runs."""
        return False
