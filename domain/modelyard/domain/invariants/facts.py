"""Rows as the checks see them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelyard.domain.jobs.lifecycle import JobState


@dataclass(frozen=True)
class Violation:
    """Something that should be impossible."""

    invariant: str
    job_id: str | None
    message: str


@dataclass(frozen=True)
class AttemptFacts:
    """One try at a job. Times in seconds of the database's clock."""

    seq: int
    started_at: float
    finished_at: float | None = None
    outcome: str | None = None


@dataclass(frozen=True)
class SeatFacts:
    """One seat that has not been left."""

    attempt: int
    node_rank: int
    lease_expires_at: float | None


@dataclass(frozen=True)
class JobFacts:
    """One job with everything about it that the checks ask for."""

    id: str
    kind: str
    state: JobState
    attempt: int = 0
    reason: str | None = None
    lease_expires_at: float | None = None
    finished_at: float | None = None
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    attempts: tuple[AttemptFacts, ...] = ()
    """In order of `seq`."""
    seats: tuple[SeatFacts, ...] = ()


@dataclass(frozen=True)
class Page:
    """Some jobs in order of their ids, and which of them cannot even be read."""

    jobs: Sequence[JobFacts]
    unreadable: Sequence[Violation]
    last: str | None
    """Where the next page begins; None behind the last."""
