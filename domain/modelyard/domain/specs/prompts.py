"""Spec of the prompt stage."""

from typing import Literal

from pydantic import Field, field_validator

from modelyard.domain.specs.base import DatasetRef, JobSpec, ModelRef, Seed, SpecModel
from modelyard.domain.specs.data import Name


class Template(SpecModel):
    """A prompt template. `{prompt}` in `user` stands for what the user wrote."""

    name: Name
    system: str | None = None
    user: str = "{prompt}"

    @field_validator("user")
    @classmethod
    def _has_prompt(cls, value: str) -> str:
        if "{prompt}" not in value:
            raise ValueError("the template must contain {prompt}, the place where the user's words go")
        return value


class PromptSpec(JobSpec):
    """Compare prompt templates on held-out items; the best becomes a new version of the prompt `name`."""

    kind: Literal["prompt"] = "prompt"
    name: Name
    model: ModelRef
    dataset: DatasetRef
    templates: list[Template] = Field(min_length=2)
    items: int = Field(default=64, ge=2)
    """Held-out items whose reference answers are scored under every template."""
    generate_items: int = Field(default=16, ge=0)
    """Of these, so many are also answered by the model and compared with ROUGE-L."""
    max_new_tokens: int = Field(default=24, ge=1)
    seed: Seed = 17
