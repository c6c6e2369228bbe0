"""Every table, imported once, so that migrations and tests see the whole schema."""

from sqlmodel import SQLModel

from modelyard.domain.deployments.tables import Deployment, Interaction
from modelyard.domain.jobs.tables import Attempt, Checkpoint, Job, JobEvent, JobTally, LogChunk, MetricPoint, Seat
from modelyard.domain.pipelines.tables import Pipeline
from modelyard.domain.projects.tables import ApiKey, Project, RememberedRequest
from modelyard.domain.registry.tables import Dataset, Evaluation, Model, MonitorReport, Prompt
from modelyard.domain.schedules.tables import Schedule, ScheduleSlot
from modelyard.domain.sweeps.tables import Sweep, Trial
from modelyard.domain.usage.tables import UsageDay, UsageEntry
from modelyard.domain.workers.tables import Host, Leadership, Reservation, Strike, Worker

METADATA = SQLModel.metadata

__all__ = [
    "METADATA",
    "ApiKey",
    "Attempt",
    "Checkpoint",
    "Dataset",
    "Deployment",
    "Evaluation",
    "Host",
    "Interaction",
    "Job",
    "JobEvent",
    "JobTally",
    "Leadership",
    "LogChunk",
    "MetricPoint",
    "Model",
    "MonitorReport",
    "Pipeline",
    "Project",
    "Prompt",
    "RememberedRequest",
    "Reservation",
    "Schedule",
    "ScheduleSlot",
    "Seat",
    "Strike",
    "Sweep",
    "Trial",
    "UsageDay",
    "UsageEntry",
    "Worker",
]
