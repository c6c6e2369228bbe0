"""What happens after an attempt ended: a pure decision over the outcomes so far."""

from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.domain.jobs.lifecycle import JobState, Outcome

INFRASTRUCTURE = frozenset(
    {Outcome.NODE_LOST, Outcome.RUNNER_LOST, Outcome.DRAINED, Outcome.PREEMPTED, Outcome.HANG, Outcome.NCCL}
)
"""Not the job's fault: never uses the user's budget."""
NO_FAILURE = INFRASTRUCTURE | {Outcome.PAUSED}
"""Uses nothing of the user's budget."""
HANDED_OVER = frozenset({Outcome.DRAINED, Outcome.PREEMPTED})
"""We asked it to leave, so it may go on at once and as often as it likes."""
NEVER_RETRIED = frozenset({Outcome.BAD_DATA, Outcome.NAN, Outcome.DEPENDENCY_FAILED, Outcome.TIMEOUT})
"""Trying again would end the same way."""
LOST_LIMIT = 5
"""A job that lost its runner so often in a row is likely the cause."""
LONG_ATTEMPT_SECONDS = 600.0
"""An attempt that ran for so long before it was lost shows that the job is not the cause: counting starts anew."""
BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 300.0


@dataclass(frozen=True)
class Next:
    """The state a job moves to, and how long it then waits."""

    state: JobState
    wait_seconds: float = 0.0


def decide_next(outcome: Outcome, stop_requested: str | None, history: Sequence[str], max_attempts: int) -> Next:
    """Where a job goes after an attempt.

    `history`: outcomes of all attempts, oldest first, this one last. `stop_requested`: why it was asked to leave.
    """
    if outcome is Outcome.SUCCEEDED:
        return Next(JobState.SUCCEEDED)
    if stop_requested == "cancelled" or outcome is Outcome.CANCELLED:
        return Next(JobState.CANCELLED)
    again = _decide_again(outcome, history, max_attempts)
    # Who asked for a pause does not want it to go on by itself because its worker was drained or lost meanwhile.
    is_paused = outcome is Outcome.PAUSED or (stop_requested == "paused" and again.state is JobState.QUEUED)
    return Next(JobState.PAUSED) if is_paused else again


def _decide_again(outcome: Outcome, history: Sequence[str], max_attempts: int) -> Next:
    if outcome in HANDED_OVER:
        return Next(JobState.QUEUED)
    if outcome in INFRASTRUCTURE:
        in_a_row = _count_last(history, INFRASTRUCTURE - HANDED_OVER)
        if in_a_row >= LOST_LIMIT:
            return Next(JobState.QUARANTINED)
        return Next(JobState.QUEUED, _backoff(in_a_row))
    own_failures = sum(past not in NO_FAILURE for past in history)
    if outcome in NEVER_RETRIED or own_failures >= max_attempts:
        return Next(JobState.FAILED)
    return Next(JobState.QUEUED, _backoff(own_failures))


def _count_last(history: Sequence[str], outcomes: frozenset[Outcome]) -> int:
    count = 0
    for past in reversed(history):
        if past not in outcomes:
            break
        count += 1
    return count


def _backoff(failures: int) -> float:
    # The first retry is immediate: most lost runners are a machine that went away once.
    return 0.0 if failures <= 1 else min(BACKOFF_SECONDS * 2.0 ** (failures - 1), LONGEST_BACKOFF_SECONDS)
