"""Projects as clients see them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from modelyard.api.times import Time
from modelyard.kit.documented import Documented

EXAMPLE: dict[str, Any] = {"name": "apollo", "share": 2.0, "max_gpus": 8, "max_gpu_hours_per_month": 500.0}
MOST = 2**31 - 1
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")]
Share = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=MOST)]
Hours = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class QuotaFields(Documented):
    """What a project may use; null means as much as there is, 0 nothing at all."""

    model_config = ConfigDict(extra="forbid")

    max_gpus: Count | None = None
    """Slots in use at once. A slot is a GPU, or a CPU share where a job runs on those. Jobs beyond are held."""
    max_queued_jobs: Count | None = None
    """Jobs that wait, queued or held. More are refused with 429 `quota_exceeded`."""
    max_gpu_hours_per_month: Hours | None = None
    """Slots × hours in a calendar month, UTC. Once they are used, jobs are held; those that run go on."""


class ProjectCreate(QuotaFields):
    """A project to make."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    name: Name
    share: Share = 1.0
    """Weight in fair share: twice the share, twice the slots while projects compete."""


class ProjectPatch(QuotaFields):
    """What to change; a field that is left out stays as it is, a quota that is null is taken away."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"max_gpus": 16, "max_queued_jobs": None}]})

    share: Share = 1.0
    """Weight in fair share."""


class UsagePublic(Documented):
    """What a project uses now."""

    gpus_in_use: int
    """Slots its running jobs hold."""
    running_jobs: int
    waiting_jobs: int
    """Queued or held."""
    gpu_hours_this_month: float
    """Calendar month, UTC; running jobs included."""
    recent_gpu_hours: float
    """What fair share goes by: halved every `MODELYARD_FAIR_SHARE_HALF_LIFE_HOURS`."""


class ProjectPublic(BaseModel):
    """A project, with what it uses now."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    share: float
    max_gpus: int | None
    max_queued_jobs: int | None
    max_gpu_hours_per_month: float | None
    created_at: Time
    usage: UsagePublic
