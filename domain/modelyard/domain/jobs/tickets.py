"""Tickets: the doorbell messages. Losing one or ringing twice harms nothing; the claim decides which job runs."""

from typing import Any

from celery import Celery

from modelyard.domain.jobs.tables import Job
from modelyard.kit.messages import Letter
from modelyard.kit.queue import send

TASK = "modelyard.run"
VERSION = 1


def make_ticket(job_id: str, attempt: int) -> dict[str, Any]:
    """The whole content of a message."""
    return {"v": VERSION, "job_id": job_id, "attempt": attempt}


def ring(app: Celery, job: Job) -> None:
    """Tell the workers that a job waits. Raises `OSError` or `RedisError` within the broker time-out."""
    send(app, TASK, job.queue, make_ticket(job.id, job.attempt + 1))


def write_letter(queue: str, job_id: str, attempt: int) -> Letter:
    """The same as a letter, to be sent with many others; `attempt`: how many the job has had."""
    return Letter(queue, make_ticket(job_id, attempt + 1))
