"""Fair share: a project that used more than its share of the recent slot-time stands back behind those that used less.

Priority, waiting and fairness are one number in seconds: the order key of a project's best job plus a penalty. So a project
is only ever set back, never shut out: a job that waited longer than the largest penalty goes first whatever its project used.

The decay of past use with a half-life is that of Slurm's multifactor priority (https://slurm.schedmd.com/priority_multifactor.html).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PENALTY_SECONDS = 86_400.0
"""What a whole share too much costs: who used twice its share stands behind what was submitted a day later."""
LARGEST_PENALTY_SECONDS = 3 * PENALTY_SECONDS
FLOOR_SLOT_SECONDS = 3600.0
"""As long as all projects together used less than one slot-hour, shares of it say little and are not divided by."""


@dataclass(frozen=True)
class Head:
    """The best waiting job of a project in some queue."""

    project_id: str
    order_key: float
    job_id: str


@dataclass(frozen=True)
class ProjectUsage:
    """What a project is due, and what it used lately."""

    share: float = 1.0
    """Weight: twice the share, twice the slots while projects compete."""
    slot_seconds: float = 0.0
    """Recent use, decayed until now, running jobs included."""


def choose(heads: Sequence[Head], usage: Mapping[str, ProjectUsage]) -> Head:
    """The head that goes first. `heads` has at least one. Pure."""
    return rank(heads, usage)[0]


def rank(heads: Sequence[Head], usage: Mapping[str, ProjectUsage]) -> list[Head]:
    """Heads in the order they should start: by order key plus what their projects are set back. Pure."""
    penalties = find_penalties({head.project_id: usage[head.project_id] for head in heads})
    return sorted(heads, key=lambda head: (head.order_key + penalties[head.project_id], head.order_key, head.job_id))


def find_penalties(usage: Mapping[str, ProjectUsage]) -> dict[str, float]:
    """Project -> seconds it is set back among those that compete. Pure."""
    shares, used = sum(each.share for each in usage.values()), sum(each.slot_seconds for each in usage.values())
    return {project: _penalty(each, each.share / shares, used) for project, each in usage.items()}


def _penalty(usage: ProjectUsage, due: float, used: float) -> float:
    above = usage.slot_seconds - due * used
    return min(max(above, 0.0) / (due * max(used, FLOOR_SLOT_SECONDS)) * PENALTY_SECONDS, LARGEST_PENALTY_SECONDS)


def decay(slot_seconds: float, age_seconds: float, half_life_seconds: float) -> float:
    """What is left of past use after some time. Pure."""
    return float(slot_seconds * math.exp2(-max(age_seconds, 0.0) / half_life_seconds))


def weigh(slots: int, seconds: float, half_life_seconds: float) -> float:
    """Slot-seconds of a job that held slots for so long until now, those of longer ago decayed. Pure."""
    # The integral of slots × 2^(−t / half-life) over the time it ran.
    return float(slots * half_life_seconds / math.log(2) * -math.expm1(-max(seconds, 0.0) * math.log(2) / half_life_seconds))
