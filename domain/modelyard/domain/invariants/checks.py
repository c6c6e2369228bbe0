"""The invariants of one job, each a pure function: what is wrong, one sentence each, or nothing."""

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

from modelyard.domain.invariants.facts import JobFacts, Violation
from modelyard.domain.jobs.lifecycle import JobState, Outcome

CLOCK_TOLERANCE_SECONDS = 0.05
"""The database's clock may be set back by so much between two transactions without anything being wrong."""
LEASE_TOLERANCE_SECONDS = 60.0
"""A dead lease is ended by the scheduler long before; later than this nobody does."""
Check = Callable[[JobFacts, float], Iterator[str]]


def one_open_attempt(job: JobFacts, now: float) -> Iterator[str]:
    """A job that runs has exactly one open attempt, its newest; any other has none."""
    open_ = [attempt.seq for attempt in job.attempts if attempt.finished_at is None]
    expected = [job.attempt] if job.state.is_active() else []
    if open_ != expected:
        yield f"is {job.state} in attempt {job.attempt} with open attempts {open_}"


def no_overlap(job: JobFacts, now: float) -> Iterator[str]:
    """No attempt begins before the one before it has ended."""
    for earlier, later in pairwise(job.attempts):
        if earlier.finished_at is not None and later.started_at < earlier.finished_at - CLOCK_TOLERANCE_SECONDS:
            seconds = earlier.finished_at - later.started_at
            yield f"attempt {later.seq} began {seconds:.3f} s before attempt {earlier.seq} ended"


def numbered_without_gaps(job: JobFacts, now: float) -> Iterator[str]:
    """Attempts are 1, 2, 3 … up to the job's own number."""
    numbers = [attempt.seq for attempt in job.attempts]
    if numbers != list(range(1, job.attempt + 1)):
        yield f"is in attempt {job.attempt} and has attempts {numbers}"


def terminal_is_closed(job: JobFacts, now: float) -> Iterator[str]:
    """A finished job says when it ended and owns nothing; every other has no such time."""
    if job.state.is_finished() and (job.finished_at is None or job.lease_expires_at is not None):
        yield f"is {job.state} with finished_at {job.finished_at} and a lease until {job.lease_expires_at}"
    if not job.state.is_finished() and job.finished_at is not None:
        yield f"is {job.state} although it says it finished"


def ended_attempts_say_how(job: JobFacts, now: float) -> Iterator[str]:
    """An attempt has an outcome exactly if it has an end."""
    for attempt in job.attempts:
        if (attempt.outcome is None) != (attempt.finished_at is None):
            yield f"attempt {attempt.seq} has outcome {attempt.outcome} and end {attempt.finished_at}"


def succeeded_once(job: JobFacts, now: float) -> Iterator[str]:
    """A job that succeeded did so in its newest attempt alone; any other never did."""
    winners = [attempt.seq for attempt in job.attempts if attempt.outcome == Outcome.SUCCEEDED]
    expected = [job.attempt] if job.state is JobState.SUCCEEDED and job.attempt else []
    if winners != expected:
        yield f"is {job.state} in attempt {job.attempt}, and attempts {winners} succeeded"


def open_job_has_a_reason(job: JobFacts, now: float) -> Iterator[str]:
    """A job that runs has a lease somebody renews; one that is held says what for; none else has a lease."""
    if job.state.is_active():
        if job.lease_expires_at is None:
            yield f"is {job.state} without a lease"
        elif job.lease_expires_at + LEASE_TOLERANCE_SECONDS < now:
            yield f"is {job.state} with a lease that ended {now - job.lease_expires_at:.0f} s ago: does a scheduler run?"
    elif not job.state.is_finished() and job.lease_expires_at is not None:
        yield f"is {job.state} and has a lease"
    if job.state is JobState.HELD and job.reason is None:
        yield "is held and does not say what for"


def seats_are_left(job: JobFacts, now: float) -> Iterator[str]:
    """Seats of an attempt that ended are left, or expire by themselves."""
    ended = {attempt.seq for attempt in job.attempts if attempt.finished_at is not None}
    for seat in job.seats:
        if seat.attempt in ended and (seat.lease_expires_at is None or seat.lease_expires_at > now):
            yield f"attempt {seat.attempt} has ended, and node rank {seat.node_rank} still holds its seat"


CHECKS: tuple[Check, ...] = (
    one_open_attempt,
    no_overlap,
    numbered_without_gaps,
    terminal_is_closed,
    ended_attempts_say_how,
    succeeded_once,
    open_job_has_a_reason,
    seats_are_left,
)


def find_unreadable(state: str, outputs: object) -> str | None:
    """What of a job's row is so wrong that nothing else can be said of it; None if it can be read."""
    if state not in set(JobState):
        return f"has the unknown state {state!r}"
    values = outputs.values() if isinstance(outputs, Mapping) else [outputs]
    if all(isinstance(each, Mapping) and {"type", "id"} <= each.keys() for each in values):
        return None
    return f"has outputs without type and id: {str(outputs)[:200]}"


def check_job(job: JobFacts, now: float) -> list[Violation]:
    """Everything that is wrong with one job."""
    return [
        Violation(check.__name__, job.id, f"{job.kind} job {job.id} {message}") for check in CHECKS for message in check(job, now)
    ]
