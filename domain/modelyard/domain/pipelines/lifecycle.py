"""What the jobs of a pipeline say about it: which of them count, and its state. Pure."""

from collections.abc import Sequence

from modelyard.domain.jobs.admission import is_done
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.tables import Job


def newest_of_steps(jobs: Sequence[Job]) -> list[Job]:
    """One job per step: the one that no other tries again, where the step's first one stood.

    By `retry_of` and not by id: ids made on two machines sort by two clocks.
    """
    again = {job.retry_of: job for job in jobs if job.retry_of}
    newest = []
    for job in jobs:
        if job.retry_of is None:
            while job.id in again:
                job = again[job.id]  # noqa: PLW2901 - follows the chain to its end
            newest.append(job)
    return newest


def pipeline_state(steps: Sequence[Job]) -> str:
    """`running` until every step is done or finished, then the worst ending."""
    if all(is_done(step) for step in steps):
        return "succeeded"
    if any(not is_done(step) and not JobState(step.state).is_finished() for step in steps):
        return "running"
    if any(step.state in {JobState.FAILED, JobState.QUARANTINED} for step in steps):
        return "failed"
    return "cancelled"
