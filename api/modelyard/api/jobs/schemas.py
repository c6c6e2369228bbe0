"""Jobs as clients see them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelyard.api.times import Time
from modelyard.domain.jobs.queues import Shape
from modelyard.domain.jobs.submission import JobRequest
from modelyard.domain.specs import Spec

EXAMPLE: dict[str, Any] = {
    "spec": {
        "kind": "pretrain",
        "name": "bard",
        "dataset": "shakespeare@1",
        "vocabulary_size": 4096,
        "sequence_length": 128,
        "steps": 300,
        "deepspeed": {"zero_stage": 1},
    },
    "resources": {"slots": 2},
    "priority": 60,
}


class Resources(BaseModel):
    """What a job needs at once."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    slots: int = Field(default=1, ge=1, le=64)
    """GPUs, or CPU slots where there is no GPU; one process (rank) runs on each."""
    accelerator: Literal["any", "gpu", "cpu"] = "any"
    """`any`: a GPU where the worker has one free, else a CPU slot."""
    nodes: int = Field(default=1, ge=1)


class JobCreate(BaseModel):
    """A job to submit."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, json_schema_extra={"examples": [EXAMPLE]})

    spec: Spec
    name: str | None = Field(default=None, max_length=200)
    priority: int = Field(default=50, ge=0, le=100)
    """Larger goes first; one point counts like a minute of waiting."""
    resources: Resources = Resources()
    max_attempts: int = Field(default=1, ge=1, le=20)
    """How often a failure of the job's own is tried; lost machines do not count."""

    def to_request(self) -> JobRequest:
        """The same in the domain's words."""
        shape = Shape(self.resources.slots, self.resources.accelerator, self.resources.nodes)
        return JobRequest(self.spec, self.name, self.priority, shape, self.max_attempts)


class JobError(BaseModel):
    """Why a job did not succeed."""

    reason: str
    message: str | None = None


class JobPublic(BaseModel):
    """A job."""

    model_config = ConfigDict(from_attributes=True)

    object: Literal["job"] = "job"
    id: str
    name: str
    kind: str
    state: str
    reason: str | None
    message: str | None
    queue: str
    priority: int
    attempt: int
    max_attempts: int
    progress: float
    progress_message: str
    spec: dict[str, Any]
    figures: dict[str, Any]
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    error: JobError | None = None
    pipeline_id: str | None
    step: str | None
    depends_on: list[str]
    worker_id: str | None
    submitted_at: Time
    started_at: Time | None
    ready_at: Time | None
    finished_at: Time | None


class AttemptPublic(BaseModel):
    """One try at a job."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    seq: int
    worker_id: str
    slots: list[str]
    outcome: str | None
    exit_code: int | None
    message: str | None
    resumed_from_step: int | None
    started_at: Time
    heartbeat_at: Time | None
    finished_at: Time | None


class EventPublic(BaseModel):
    """Something that happened to a job."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    attempt: int
    type: str
    data: dict[str, Any]
    created_at: Time


class MetricPublic(BaseModel):
    """One value of one metric; `value` is null where the recipe reported NaN or infinity."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    step: int
    value: float | None
    attempt: int
    at: Time


class LogPublic(BaseModel):
    """Consecutive log lines of one rank."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    attempt: int
    rank: int
    text: str
    at: Time


class CheckpointPublic(BaseModel):
    """A checkpoint a later attempt can continue from."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    attempt: int
    step: int
    sha256: str
    bytes: int
    metrics: dict[str, Any]
    created_at: Time


class ExplanationPublic(BaseModel):
    """Why a job is where it is, and the way out."""

    model_config = ConfigDict(from_attributes=True)

    state: str
    summary: str
    reason: str | None
    details: list[str]
    fix: str | None
    log_lines: list[str]
