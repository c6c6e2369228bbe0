"""Approving a job that waits for it, or turning it down."""

from sqlmodel import Session

from modelyard.domain.errors import Conflict
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.ownership import add_event, change
from modelyard.domain.jobs.tables import Job
from modelyard.kit.database import database_now, read_clock

REJECTED = "rejected"


class NotWaitingForApproval(Conflict):
    """There is nothing to approve or to turn down."""

    code = "not_waiting_for_approval"

    def __init__(self, job: Job) -> None:
        if not job.needs_approval:
            why = "was submitted without `needs_approval`"
        elif job.approved_at is not None:
            why = f"was approved by {job.approved_by} already; cancel it if it must not run"
        elif job.state == JobState.PAUSED:
            why = f"is paused; POST /v1/jobs/{job.id}/resume lets it wait for approval again"
        else:
            why = f"is {job.state} already; submit it again, or POST /v1/jobs/{job.id}/retry"
        super().__init__(f"Job {job.id} {why}", field="job_id", value=job.id)


def approve(session: Session, job: Job, key_id: str, comment: str | None = None) -> None:
    """Write down who approved; the job goes on once everything else it waits for is there. Raises `NotWaitingForApproval`.

    The caller has locked the row.
    """
    _check_waits(job)
    job.approved_at, job.approved_by = read_clock(session), key_id
    session.add(job)
    session.flush()
    add_event(session, job.id, job.attempt, "approved", {"by": key_id, "comment": comment})


def reject(session: Session, job: Job, key_id: str, reason: str) -> None:
    """Turn a job down: it never runs. Raises `NotWaitingForApproval`. The caller has locked the row."""
    _check_waits(job)
    message = f"Rejected by {key_id}: {reason}"
    change(
        session,
        job,
        JobState.CANCELLED,
        {"reason": REJECTED, "by": key_id},
        finished_at=database_now(),
        reason=REJECTED,
        message=message,
    )


def _check_waits(job: Job) -> None:
    if job.state != JobState.HELD or not job.needs_approval or job.approved_at is not None:
        raise NotWaitingForApproval(job)
