"""Asking a job to stop, pause or go on. The running attempt learns it at its next heartbeat, saves and leaves."""

from typing import Any

from sqlmodel import Session

from modelyard.domain.errors import Conflict
from modelyard.domain.jobs.lifecycle import JobState, Outcome
from modelyard.domain.jobs.ownership import change
from modelyard.domain.jobs.tables import Job
from modelyard.domain.specs import KINDS
from modelyard.kit.database import database_now


def cancel(session: Session, job: Job, keep_checkpoint: bool = True) -> None:
    """End a job: at once if it only waits; if it runs it saves and leaves.

    Without `keep_checkpoint` nothing is waited for, and the checkpoints it has are removed soon after it ended; that may
    also be asked of a job that is being cancelled already. Asking the same twice changes nothing.
    """
    state, wish = JobState(job.state), "cancelled" if keep_checkpoint else "discarded"
    if state.is_finished():
        raise Conflict(f"Job {job.id} is already {state}; there is nothing to cancel", field="job_id", value=job.id)
    if state is JobState.CANCELLING:
        if not keep_checkpoint:
            job.stop_requested = wish
            session.add(job)
        return
    if state.is_active():
        change(session, job, JobState.CANCELLING, stop_requested=wish)
    else:
        values: dict[str, Any] = {"reason": "cancelled", "stop_requested": None if keep_checkpoint else wish}
        values["message"] = "Cancelled before it ran" if job.attempt == 0 else "Cancelled while it waited"
        change(session, job, JobState.CANCELLED, finished_at=database_now(), **values)


def pause(session: Session, job: Job) -> None:
    """Stop a job until it is resumed: at once if it only waits; if it runs it saves and leaves.

    Raises `Conflict` where a running job's kind could not continue.
    """
    state = JobState(job.state)
    if state is JobState.PAUSING:
        return
    if state in {JobState.QUEUED, JobState.HELD}:
        # What it was held for stays written: resuming must not let it pass by that.
        change(session, job, JobState.PAUSED)
        return
    if state is not JobState.RUNNING:
        raise Conflict(f"Job {job.id} is {state}; only a job that waits or runs can pause", field="job_id", value=job.id)
    if not KINDS[job.kind].can_resume:
        raise Conflict(f"A running {job.kind} job cannot continue where it stopped, so it cannot pause; cancel it instead")
    change(session, job, JobState.PAUSING, stop_requested="paused")


def resume(session: Session, job: Job) -> None:
    """Let a paused job wait again: in its queue, or held for what it was held for."""
    if job.state != JobState.PAUSED:
        raise Conflict(f"Job {job.id} is {job.state}; only a paused job can be resumed", field="job_id", value=job.id)
    was_held = job.reason is not None and job.reason not in set(Outcome)
    if was_held:
        change(session, job, JobState.HELD)
    else:
        change(session, job, JobState.QUEUED, reason=None, message=None)
