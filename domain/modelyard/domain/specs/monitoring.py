"""Spec of the monitoring stage."""

from typing import Literal

from pydantic import Field

from modelyard.domain.specs.base import DatasetRef, DeploymentRef, JobSpec, Seed
from modelyard.domain.specs.data import Name


class MonitorSpec(JobSpec):
    """Describe what a deployment answered: latency, tokens, and drift of its prompts against a reference."""

    kind: Literal["monitor"] = "monitor"
    name: Name
    deployment: DeploymentRef
    reference: DatasetRef
    """The prompts the model was trained on."""
    min_interactions: int = Field(default=20, ge=1)
    """The job is held until the deployment answered so many requests."""
    max_interactions: int = Field(default=10_000, ge=1)
    """The most recent ones are used."""
    drift_permutations: int = Field(default=200, ge=20)
    seed: Seed = 17

    def is_reproducible(self) -> bool:
        """The requests of a deployment go on coming in."""
        return False
