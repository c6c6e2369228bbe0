"""Every table, imported once, so that migrations and tests see the whole schema."""

from sqlmodel import SQLModel

from modelyard.domain.deployments.tables import Deployment, Interaction
from modelyard.domain.jobs.tables import Attempt, Checkpoint, Job, JobEvent, LogChunk, MetricPoint
from modelyard.domain.pipelines.tables import Pipeline
from modelyard.domain.projects.tables import ApiKey, Project, RememberedRequest
from modelyard.domain.registry.tables import Dataset, Evaluation, Model, MonitorReport, Prompt
from modelyard.domain.workers.tables import Leadership, Worker

METADATA = SQLModel.metadata

__all__ = [
    "METADATA",
    "ApiKey",
    "Attempt",
    "Checkpoint",
    "Dataset",
    "Deployment",
    "Evaluation",
    "Interaction",
    "Job",
    "JobEvent",
    "Leadership",
    "LogChunk",
    "MetricPoint",
    "Model",
    "MonitorReport",
    "Pipeline",
    "Project",
    "Prompt",
    "RememberedRequest",
    "Worker",
]
