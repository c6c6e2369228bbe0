"""What the quickstart reports about each stage."""

from datetime import datetime
from typing import Any

from modelyard.cli.progress import state_of
from modelyard.cli.waiting import has_succeeded, is_done

Document = dict[str, Any]


def describe_stage(job: Document) -> Document:
    """One stage as the last line of `--json` has it."""
    return {
        "name": job["step"],
        "kind": job["kind"],
        "job_id": job["id"],
        "status": state_of(job),
        "seconds": measure_seconds(job),
        "figures": job["figures"],
    }


def measure_seconds(job: Document) -> float | None:
    """Seconds the job ran, or took to become ready; None if it never started or is not done."""
    start, end = job["started_at"], job["ready_at"] or job["finished_at"]
    if start is None or end is None:
        return None
    return round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds(), 1)


def find_deployment(pipeline: Document) -> Document | None:
    """The deploy job, once it answers."""
    return next((job for job in pipeline["jobs"] if job["kind"] == "deploy" and has_succeeded(job)), None)


def has_failed(pipeline: Document) -> bool:
    """Whether some job ended otherwise than wished."""
    return any(is_done(job) and not has_succeeded(job) for job in pipeline["jobs"])
