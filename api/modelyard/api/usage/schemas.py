"""The ledger as clients see it: hours, not seconds."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel

from modelyard.api.times import Time
from modelyard.domain.usage.accounting import Split
from modelyard.domain.usage.sums import SPLIT_NAMES, Grouping, UsageRow
from modelyard.domain.usage.tables import UsageEntry
from modelyard.kit.documented import Documented

HOUR_SECONDS = 3600.0


class GpuHours(Documented):
    """Slots × hours by what came of them. A slot is a GPU, or a CPU share where the job ran on those: see `accelerator`."""

    total: float
    useful: float
    """Steps that were kept."""
    redone: float
    """Steps after the last checkpoint of an attempt that was lost or stopped, and those a training went back behind by itself."""
    starting: float
    """From the claim to the first step."""
    idle: float
    """After the last step: saving, storing, hanging."""
    failed: float
    """Work that came to nothing."""


class UsageRowPublic(BaseModel):
    """One group."""

    key: str
    accelerator: str
    attempts: int
    gpu_hours: GpuHours
    waiting_hours: float
    useful_share: float | None
    provisional: bool


class UsageReport(BaseModel):
    """Groups, largest first."""

    object: Literal["list"] = "list"
    group_by: Grouping
    data: list[UsageRowPublic]
    has_more: bool


class AttemptUsage(BaseModel):
    """One attempt."""

    attempt: int
    accelerator: str
    slots: int
    started_at: Time
    finished_at: Time
    waiting_hours: float
    gpu_hours: GpuHours


class JobUsage(BaseModel):
    """A job and its attempts."""

    job_id: str
    totals: list[UsageRowPublic]
    data: list[AttemptUsage]


def show_report(grouping: Grouping, rows: Sequence[UsageRow], limit: int) -> UsageReport:
    """A report as clients see it."""
    return UsageReport(group_by=grouping, data=[_show_row(row) for row in rows[:limit]], has_more=len(rows) > limit)


def _show_row(row: UsageRow) -> UsageRowPublic:
    return UsageRowPublic(
        key=row.key,
        accelerator=row.accelerator,
        attempts=row.attempts,
        gpu_hours=_hours(row.split),
        waiting_hours=row.waiting_seconds / HOUR_SECONDS,
        useful_share=row.split.useful / row.split.total if row.split.total else None,
        provisional=row.has_running,
    )


def show_entry(entry: UsageEntry) -> AttemptUsage:
    """An attempt as clients see it."""
    return AttemptUsage(
        attempt=entry.attempt,
        accelerator=entry.accelerator,
        slots=entry.slots,
        started_at=entry.started_at,
        finished_at=entry.finished_at,
        waiting_hours=entry.waiting_seconds / HOUR_SECONDS,
        gpu_hours=_hours(Split(*(getattr(entry, name) for name in SPLIT_NAMES))),
    )


def _hours(split: Split) -> GpuHours:
    hours = {name: getattr(split, name) / HOUR_SECONDS for name in SPLIT_NAMES}
    return GpuHours(total=split.total / HOUR_SECONDS, **hours)
