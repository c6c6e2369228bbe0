"""What a worker knows of a job it has just claimed, for the runner it forks: that need not ask the database before it begins."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from modelyard.domain.jobs.tables import Job
from modelyard.workers.runner.deadline import boot_time
from modelyard.workers.runner.inputs import MissingInput, locate_inputs

FRESH_SHARE = 0.25
"""An older one, in leases, is not gone by: where a worker was frozen in between, the runner asks the database."""


@dataclass(frozen=True)
class Handover:
    """A claimed job, and where its inputs are."""

    job: Job
    inputs: dict[str, dict[str, Any]]
    claimed_at: float
    """A moment of `boot_time()` before the claim: what the lease is counted from, without asking the database."""

    def is_fresh(self, lease_seconds: float) -> bool:
        """Whether the runner may begin with it."""
        return boot_time() - self.claimed_at < FRESH_SHARE * lease_seconds

    def to_document(self) -> dict[str, Any]:
        """Plain data, for another process of this machine."""
        return {"job": self.job.model_dump(), "inputs": self.inputs, "claimed_at": self.claimed_at}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Handover":
        """The reverse of `to_document`."""
        return cls(Job(**document["job"]), document["inputs"], document["claimed_at"])


def make_handover(session: Session, job: Job, claimed_at: float) -> Handover | None:
    """Put together what the runner needs, in the transaction of the claim; None where there is more to find out than that."""
    if not is_simple(job):
        return None
    try:
        return Handover(job, locate_inputs(session, job.inputs), claimed_at)
    except MissingInput:
        return None  # the runner finds the same, and reports it


def is_simple(job: Job) -> bool:
    """Whether a job just claimed has nothing to continue from, nothing to open, and nobody to wait for. Pure."""
    is_new = job.attempt == 1 and job.retry_of is None and job.resume_from is None
    reads_a_deployment = any(given["type"] == "deployment" for given in job.inputs.values())
    return is_new and job.nodes == 1 and job.kind != "deploy" and not reads_a_deployment
