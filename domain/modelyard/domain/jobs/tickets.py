"""Tickets: the doorbell messages. Losing one or ringing twice harms nothing; the claim decides which job runs."""

from typing import Any

from modelyard.kit.messages import Letter

TASK = "modelyard.run"
VERSION = 1


def make_ticket(job_id: str, attempt: int) -> dict[str, Any]:
    """The whole content of a message."""
    return {"v": VERSION, "job_id": job_id, "attempt": attempt}


def write_letter(queue: str, job_id: str, attempt: int) -> Letter:
    """The ticket of a job's next attempt, as it is sent; `attempt`: the number of its newest one."""
    return Letter(queue, make_ticket(job_id, attempt + 1))
