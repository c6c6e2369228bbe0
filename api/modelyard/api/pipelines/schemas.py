"""Pipelines as clients see them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from modelyard.api.jobs.schemas import JobPublic
from modelyard.api.times import Time


class PipelinePublic(BaseModel):
    """A pipeline and its jobs."""

    model_config = ConfigDict(from_attributes=True)

    object: Literal["pipeline"] = "pipeline"
    id: str
    name: str
    state: str
    created_at: Time
    finished_at: Time | None
    reuse: bool
    jobs: list[JobPublic] = []
    """The newest job of each step."""
    replaced: list[JobPublic] = []
    """Jobs that were tried again, oldest first."""
