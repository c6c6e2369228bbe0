"""Jobs as users write them: what `POST /v1/jobs` takes and what a schedule keeps."""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field

from modelyard.domain.jobs.queues import Shape
from modelyard.domain.jobs.submission import JobRequest
from modelyard.domain.specs import Spec
from modelyard.kit.documented import Documented

FIRST_START, LAST_START = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""Beyond these some time zones have no such year, and the job could not be shown any more."""
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


class Resources(Documented):
    """What a job needs at once."""

    model_config = ConfigDict(extra="forbid")

    slots: int = Field(default=1, ge=1, le=64)
    """GPUs, or CPU slots where there is no GPU; one process (rank) runs on each."""
    accelerator: Literal["any", "gpu", "cpu"] = "any"
    """`any`: a GPU where the worker has one free, else a CPU slot."""
    nodes: int = Field(default=1, ge=1)


class JobCreate(Documented):
    """A job to submit."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    spec: Spec
    name: str | None = Field(default=None, max_length=200)
    priority: int = Field(default=50, ge=0, le=100)
    """Larger goes first; one point counts like a minute of waiting."""
    resources: Resources = Field(default_factory=Resources)
    max_attempts: int = Field(default=1, ge=1, le=20)
    """How often a failure of the job's own is tried; lost machines do not count."""
    preemptible: bool = False
    """A job of higher priority may take its slots: it saves, waits and goes on later."""
    time_limit_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """How long it may run, all attempts together; then it saves and ends as `timeout`."""
    start_at: AwareDatetime | None = Field(default=None, ge=FIRST_START, le=LAST_START)
    """Not started before; give the offset from UTC, e.g. `2030-01-31T06:00:00+01:00`."""
    needs_approval: bool = False
    """Held until somebody approves it: `POST /v1/jobs/{id}/approve`."""
    resume_from: str | None = Field(default=None, min_length=1, max_length=100)
    """Id of a checkpoint of another job of the same kind and model: this one begins there, with the optimizer's state, on any
    number of slots and ZeRO stage, and with as many sequences per step."""

    def to_request(self) -> JobRequest:
        """The same in the domain's words."""
        shape = Shape(self.resources.slots, self.resources.accelerator, self.resources.nodes)
        return JobRequest(
            spec=self.spec,
            name=self.name,
            priority=self.priority,
            shape=shape,
            max_attempts=self.max_attempts,
            preemptible=self.preemptible,
            time_limit_seconds=self.time_limit_seconds,
            start_at=self.start_at.timestamp() if self.start_at else None,
            needs_approval=self.needs_approval,
            resume_from=self.resume_from,
        )
