"""Asking a job to stop, pause or go on. The running attempt learns it at its next heartbeat, saves and leaves."""

from sqlmodel import Session

from modelyard.domain.errors import Conflict
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.ownership import change
from modelyard.domain.jobs.tables import Job
from modelyard.domain.specs import KINDS
from modelyard.kit.database import database_now


def cancel(session: Session, job: Job) -> None:
    """End a job: at once if it only waits, after saving if it runs; nothing happens if it is being cancelled already."""
    state = JobState(job.state)
    if state.is_finished():
        raise Conflict(f"Job {job.id} is already {state}; there is nothing to cancel", field="job_id", value=job.id)
    if state is JobState.CANCELLING:
        return
    if state.is_active():
        change(session, job, JobState.CANCELLING, stop_requested="cancelled")
    else:
        change(
            session, job, JobState.CANCELLED, finished_at=database_now(), reason="cancelled", message="Cancelled before it ran"
        )


def pause(session: Session, job: Job) -> None:
    """Ask a running job to save and leave. Raises `Conflict` where the kind could not continue."""
    if not KINDS[job.kind].can_resume:
        raise Conflict(f"A {job.kind} job cannot continue where it stopped, so it cannot pause; cancel it instead")
    if job.state == JobState.PAUSING:
        return
    if job.state != JobState.RUNNING:
        raise Conflict(f"Job {job.id} is {job.state}; only a running job can pause")
    change(session, job, JobState.PAUSING, stop_requested="paused")


def resume(session: Session, job: Job) -> None:
    """Put a paused job back into its queue."""
    if job.state != JobState.PAUSED:
        raise Conflict(f"Job {job.id} is {job.state}; only a paused job can be resumed")
    change(session, job, JobState.QUEUED, reason=None, message=None)
