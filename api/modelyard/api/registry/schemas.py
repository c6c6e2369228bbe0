"""Registered things as clients see them."""

from typing import Any

from pydantic import BaseModel, ConfigDict, computed_field

from modelyard.api.times import Time


class RegisteredPublic(BaseModel):
    """One version of a dataset, model, prompt, evaluation or report."""

    model_config = ConfigDict(from_attributes=True)

    object: str = ""
    id: str
    name: str
    version: int
    sha256: str
    bytes: int
    job_id: str | None
    details: dict[str, Any]
    created_at: Time

    @computed_field
    def created(self) -> int:
        """Seconds since the epoch, as OpenAI clients expect it."""
        return int(self.created_at.timestamp())

    @computed_field
    def owned_by(self) -> str:
        """As OpenAI clients expect it."""
        return "modelyard"
