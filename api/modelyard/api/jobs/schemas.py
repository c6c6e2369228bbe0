"""Jobs as clients see them."""

from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from modelyard.api.times import Time
from modelyard.domain.jobs.bodies import EXAMPLE, JobCreate
from modelyard.domain.jobs.narration import narrate
from modelyard.domain.jobs.tables import JobEvent
from modelyard.kit.documented import Documented

T = TypeVar("T")


class ApprovalCreate(BaseModel):
    """What an approver has to say."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"comment": "Budget is fine until March"}]})

    comment: str | None = Field(default=None, max_length=1000)


class RejectionCreate(BaseModel):
    """Why a job must not run."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "Trains on last year's data"}]})

    reason: str = Field(min_length=1, max_length=1000)


class RetryCreate(BaseModel):
    """What to change when a job is tried again; what is left out stays as it was."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"priority": 80}]})

    priority: int | None = Field(default=None, ge=0, le=100)
    max_attempts: int | None = Field(default=None, ge=1, le=20)


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
    slots: int
    nodes: int
    preemptible: bool
    time_limit_seconds: float | None
    needs_approval: bool
    approved_at: Time | None
    approved_by: str | None
    retry_of: str | None
    resume_from: str | None
    resume_from_job: str | None
    resume_from_step: int | None
    reproduces: str | None
    reused_from: str | None
    worker_id: str | None
    start_at: Time | None
    submitted_at: Time
    started_at: Time | None
    ready_at: Time | None
    finished_at: Time | None


class BatchCreate(BaseModel):
    """Jobs to submit together."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"jobs": [EXAMPLE]}]})

    jobs: list[JobCreate] = Field(min_length=1, max_length=500)


class BatchedJob(BaseModel):
    """A job of a batch in short."""

    object: Literal["job"] = "job"
    id: str
    state: str
    reason: str | None


class BatchCreated(BaseModel, Generic[T]):
    """What was submitted together, in the order it was given."""

    object: Literal["list"] = "list"
    data: list[T]


class AttemptPublic(BaseModel):
    """One try at a job."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    seq: int
    worker_id: str
    slots: list[str]
    outcome: str | None
    exit_code: int | None
    failing_rank: int | None
    """The first rank that failed, where one did; counted over all workers of the job."""
    message: str | None
    resumed_from: str | None
    resumed_from_step: int | None
    started_at: Time
    heartbeat_at: Time | None
    finished_at: Time | None


EVENT_EXAMPLE: dict[str, JsonValue] = {
    "id": 412,
    "attempt": 2,
    "type": "asked_to_leave",
    "data": {"reason": "preempted", "for_priority": 80},
    "what": "asked to leave",
    "why": "preempted: for a job of priority 80",
    "created_at": "2026-03-01T09:12:44Z",
}


class EventPublic(Documented):
    """Something that happened to a job."""

    model_config = ConfigDict(json_schema_extra={"examples": [EVENT_EXAMPLE]})

    id: int
    attempt: int
    type: str
    data: dict[str, Any]
    what: str
    """The event in two or three words."""
    why: str
    """The reason in words; empty where there is nothing to add."""
    created_at: Time

    @classmethod
    def of(cls, event: JobEvent) -> Self:
        """An event as clients see it."""
        told = narrate(event.type, event.data)
        return cls(**event.model_dump(exclude={"job_id"}), what=told.what, why=told.why)


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
