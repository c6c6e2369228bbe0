"""How long a job may still run: its time limit less what all its attempts have used."""

from sqlmodel import Session

from modelyard.domain.jobs.repository import list_attempts, list_checkpoints
from modelyard.domain.jobs.tables import Job
from modelyard.kit.database import read_clock


def find_time_left(session: Session, job: Job) -> float | None:
    """Seconds of running time left by the database's clock, negative if it is used up; None without a limit."""
    if job.time_limit_seconds is None:
        return None
    now = read_clock(session)
    used = sum((attempt.finished_at or now) - attempt.started_at for attempt in list_attempts(session, job.id))
    return job.time_limit_seconds - used


def describe_time_limit(session: Session, job: Job) -> str:
    """One sentence about a limit that was reached, and what is left of the work."""
    newest = next(iter(list_checkpoints(session, job.id)), None)
    kept = f"the checkpoint of step {newest.step} is kept" if newest else "there is no checkpoint"
    over = "1 attempt" if job.attempt == 1 else f"{job.attempt} attempts"
    return f"Reached its time limit of {job.time_limit_seconds:g} s over {over}; {kept}"
