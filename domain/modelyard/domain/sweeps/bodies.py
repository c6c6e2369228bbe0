"""Sweeps as users write them: what `POST /v1/sweeps` takes and `modelyard sweep` sends."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, field_validator

from modelyard.domain.jobs.bodies import JobCreate
from modelyard.domain.sweeps.space import Parameter
from modelyard.kit.documented import Documented

SweepName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
MOST_TRIALS = 1000
MOST_PARAMETERS = 50
EXAMPLE: dict[str, Any] = {
    "name": "bard-search",
    "job": {"spec": {"kind": "pretrain", "name": "bard", "dataset": "shakespeare@1", "steps": 400, "evaluate_every": 50}},
    "parameters": {
        "spec.optimizer.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        "spec.micro_batch_size": {"type": "categorical", "choices": [4, 8, 16]},
    },
    "metric": "validation_loss",
    "trials": 16,
    "parallel": 4,
    "pruning": {"min_steps": 50, "reduction_factor": 2},
    "max_gpu_hours": 8,
    "promote": "bard-best",
}


class Pruning(Documented):
    """Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934).

    A trial pauses at `min_steps`, `min_steps × reduction_factor`, …; of those that came so far the best
    1/`reduction_factor` go on from their checkpoints.
    """

    model_config = ConfigDict(extra="forbid")

    min_steps: int = Field(ge=1)
    """Optimizer steps before the first rung."""
    reduction_factor: int = Field(default=3, ge=2, le=100)


class SweepCreate(Documented):
    """A search for the best parameters of a job."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    name: SweepName
    """Its jobs are named after it: `NAME-0`, `NAME-1`, …"""
    job: JobCreate
    """The body of `POST /v1/jobs` all trials share."""
    parameters: dict[str, Parameter] = Field(min_length=1, max_length=MOST_PARAMETERS)
    """Place in the body -> its range, e.g. `spec.optimizer.learning_rate: {type: float, low: 1e-4, high: 1e-2, log: true}`."""
    metric: str = Field(default="validation_loss", min_length=1, max_length=200)
    """A metric or figure the job reports; its newest value at a rung, or at the end, is the trial's."""
    direction: Literal["minimize", "maximize"] = "minimize"
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """`tpe`: the first ten at random, then where good ones were found (Bergstra et al. 2011). `grid`: all points in order."""
    trials: int = Field(default=20, ge=1, le=MOST_TRIALS)
    parallel: int = Field(default=1, ge=1, le=MOST_TRIALS)
    """Trials that run or wait in their queue at once; those that paused at a rung do not count."""
    pruning: Pruning | None = None
    max_gpu_hours: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Slot-hours of all trials together (a slot is a GPU, or a CPU share); then what runs is ended and the best so far stands."""
    promote: SweepName | None = None
    """Register the best trial's output under this name too, as its next version."""
    seed: int = Field(default=17, ge=0, le=2**31 - 1)

    @field_validator("job")
    @classmethod
    def _trials_begin_at_the_start(cls, job: JobCreate) -> JobCreate:
        if job.resume_from is not None:
            raise ValueError(
                "job.resume_from: trials are compared from their first step on, so they begin at no checkpoint; leave it out, "
                "or name the output of that job as `model`"
            )
        return job

    def job_as_given(self) -> dict[str, Any]:
        """The job's body without what the user left out."""
        return self.job.model_dump(mode="json", by_alias=True, exclude_unset=True)
