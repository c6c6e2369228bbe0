"""Tickets: the doorbell messages. Losing one or ringing twice harms nothing; the claim decides which job runs."""

from typing import Any

from celery import Celery

from modelyard.domain.jobs.tables import Job
from modelyard.kit.queue import send

TASK = "modelyard.run"
VERSION = 1


def make_ticket(job_id: str, attempt: int) -> dict[str, Any]:
    """The whole content of a message."""
    return {"v": VERSION, "job_id": job_id, "attempt": attempt}


def ring(app: Celery, job: Job) -> None:
    """Tell the workers that a job waits. Raises `OSError` or `RedisError` within the broker time-out."""
    send(app, TASK, job.queue, make_ticket(job.id, job.attempt + 1))
