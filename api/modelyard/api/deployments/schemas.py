"""Deployments as clients see them."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from modelyard.api.times import Time
from modelyard.domain.jobs.bodies import Resources
from modelyard.domain.specs.deployment import DeploySpec


class DeploymentCreate(DeploySpec):
    """A model to serve: the spec of a deploy job, and the slots it takes."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "quickstart", "model": "quickstart@1"}]})

    resources: Resources = Resources()


class DeploymentPublic(BaseModel):
    """A deployment; its model server's address and token stay inside."""

    model_config = ConfigDict(from_attributes=True)

    object: str = "deployment"
    id: str
    name: str
    model_id: str
    job_id: str
    state: str
    created_at: Time
    ready_at: Time | None
    stopped_at: Time | None


class InteractionPublic(BaseModel):
    """One answered request."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    messages: list[Any]
    answer: str
    status: int
    streamed: bool
    latency_seconds: float
    time_to_first_token_seconds: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    created_at: Time
