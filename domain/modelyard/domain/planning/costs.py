"""What a job costs of its project's quota. Pure."""

from dataclasses import dataclass

from modelyard.domain.planning.durations import Duration
from modelyard.domain.scheduling.quotas import HOUR_SECONDS, Quotas, Use


@dataclass(frozen=True)
class Cost:
    """Slot-hours of a job, beside what its project may use; a slot is a GPU, or a CPU share."""

    slots: int
    expected_slot_hours: float | None
    low_slot_hours: float | None
    high_slot_hours: float | None
    max_slots: int | None
    """What the project may use at once; None: as much as there is."""
    slot_hours_per_month: float | None
    """What it may use in a calendar month; None: as much as there is."""
    slot_hours_used: float | None
    """Used this month; None where nothing limits it."""
    exceeds: str | None
    """Which quota the job would break, with the figures."""


def reckon_cost(project: str, slots: int, duration: Duration, quotas: Quotas, use: Use) -> Cost:
    """Hold a job's slot-hours against the quotas of its project."""
    expected = _hours(slots, duration.expected_seconds)
    budget = quotas.max_gpu_hours_per_month
    used = use.gpu_hours_this_month if budget is not None else None
    exceeds = _say_excess(project, slots, expected, quotas, used)
    low, high = _hours(slots, duration.low_seconds), _hours(slots, duration.high_seconds)
    return Cost(slots, expected, low, high, quotas.max_gpus, budget, used, exceeds)


def _hours(slots: int, seconds: float | None) -> float | None:
    return None if seconds is None else seconds * slots / HOUR_SECONDS


def _say_excess(project: str, slots: int, hours: float | None, quotas: Quotas, used: float | None) -> str | None:
    budget = quotas.max_gpu_hours_per_month
    if quotas.max_gpus is not None and slots > quotas.max_gpus:
        return f"it asks for {slots} slots, and project {project} may use {quotas.max_gpus} at once (max_gpus)"
    if budget is not None and used is not None and used + (hours or 0.0) > budget:
        needed = f"the job needs about {hours:.2f}" if hours is not None else "nobody knows how many the job needs"
        return f"project {project} has used {used:.2f} of its {budget:g} slot-hours this month, and {needed}"
    return None
