"""Which machines jobs should keep away from: those that lost attempts of several jobs within a short time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelyard.domain.jobs.lifecycle import Outcome

BLAMED = frozenset({Outcome.NODE_LOST, Outcome.RUNNER_LOST, Outcome.HANG, Outcome.NCCL, Outcome.DISK_FULL})
"""Endings a machine may be to blame for."""
STRIKE_WINDOW_SECONDS = 3600.0
STRIKES = 3
JOBS = 2
"""Strikes of so many different jobs: one job that kills every machine it meets is not their fault."""
FIRST_EXCLUSION_SECONDS = 1800.0
LONGEST_EXCLUSION_SECONDS = 8 * 3600.0
RECURS_WITHIN_SECONDS = 86_400.0
"""An exclusion so soon after the one before lasts twice as long."""


@dataclass(frozen=True)
class Blow:
    """One strike against a machine."""

    host: str
    job_id: str
    outcome: str
    at: float


@dataclass(frozen=True)
class Record:
    """The last exclusion of a machine; times in seconds since the epoch."""

    excluded_at: float | None = None
    excluded_until: float | None = None


@dataclass(frozen=True)
class Exclude:
    """Keep jobs away from a machine for so long."""

    host: str
    seconds: float
    because: str


def decide_exclusions(
    blows: Sequence[Blow], records: Mapping[str, Record], serving: Mapping[str, frozenset[str]], now: float
) -> list[Exclude]:
    """Which machines to exclude. Never the last one that serves a queue: a bad machine is better than none.

    `serving`: machine -> queues its workers serve, only machines that take jobs now.
    """
    left = dict(serving)
    excluded = []
    for host in sorted(serving):
        counted = _count(blows, host, records.get(host, Record()), now)
        others = frozenset[str]().union(*(queues for other, queues in left.items() if other != host))
        if counted and serving[host] <= others:
            del left[host]
            excluded.append(Exclude(host, _length(records.get(host, Record()), now), _say(counted)))
    return excluded


def _count(blows: Sequence[Blow], host: str, record: Record, now: float) -> list[Blow]:
    """The strikes that exclude a machine, or none. Those before its last exclusion ended have been paid for."""
    since = max(now - STRIKE_WINDOW_SECONDS, record.excluded_until or 0.0)
    counted = [blow for blow in blows if blow.host == host and blow.at > since]
    enough = len(counted) >= STRIKES and len({blow.job_id for blow in counted}) >= JOBS
    return counted if enough else []


def _length(record: Record, now: float) -> float:
    if record.excluded_at is None or record.excluded_until is None or now - record.excluded_until > RECURS_WITHIN_SECONDS:
        return FIRST_EXCLUSION_SECONDS
    return min(2 * (record.excluded_until - record.excluded_at), LONGEST_EXCLUSION_SECONDS)


def _say(counted: Sequence[Blow]) -> str:
    outcomes = sorted({blow.outcome for blow in counted})
    jobs = len({blow.job_id for blow in counted})
    return f"{len(counted)} attempts of {jobs} jobs ended within an hour as if the machine were to blame: {', '.join(outcomes)}"
