"""What happens after an attempt ended: a pure decision over the attempts so far.

| the attempt ended with | the job |
|---|---|
| `drained`, `preempted` | goes on at once, as often as we ask it to hand over |
| `node_lost`, `runner_lost` | goes on; quarantined after `DEATH_LIMIT` in a row that got nowhere |
| `hang` | goes on where it was; the second time on another host; the third time it failed |
| `disk_full` | goes on on another host; failed after `TROUBLE_LIMIT` in a row |
| `nccl` | goes on; failed after `TROUBLE_LIMIT` in a row |
| `user_code`, `oom_gpu`, `oom_host` | goes on while there is budget (`max_attempts`) |
| `bad_data`, `nan`, `timeout`, `dependency_failed` | failed |

"In a row" ends where an attempt got on: it ran for long, or saved a checkpoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.domain.jobs.lifecycle import JobState, Outcome

DEATHS = frozenset({Outcome.NODE_LOST, Outcome.RUNNER_LOST})
"""The worker or the runner went away: perhaps the machine's fault, perhaps the job's."""
HANDED_OVER = frozenset({Outcome.DRAINED, Outcome.PREEMPTED})
"""We asked it to leave, so it may go on at once and as often as it likes."""
TROUBLE = DEATHS | {Outcome.HANG, Outcome.NCCL, Outcome.DISK_FULL}
"""Failures of the infrastructure."""
NO_FAILURE = TROUBLE | HANDED_OVER | {Outcome.PAUSED}
"""Uses nothing of the user's budget."""
NEVER_RETRIED = frozenset({Outcome.BAD_DATA, Outcome.NAN, Outcome.DEPENDENCY_FAILED, Outcome.TIMEOUT})
"""Trying again would end the same way."""
CANCELS = frozenset({"cancelled", "discarded"})
"""Wishes after which a job does not go on; `discarded`: nor does it keep its checkpoints."""

DEATH_LIMIT = 3
"""A job that lost its worker so often in a row without getting on is likely the cause."""
HANG_LIMIT = 3
TROUBLE_LIMIT = 6
"""Failures of the infrastructure, of whatever kind, in a row without getting on: it is not a passing trouble."""
LONG_ATTEMPT_SECONDS = 600.0
"""An attempt that ran for so long got on."""
BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 300.0


@dataclass(frozen=True)
class Past:
    """An attempt that ended."""

    outcome: str
    seconds: float = 0.0
    has_saved: bool = False
    """Whether it left a checkpoint newer than the one it began with."""
    host: str = ""

    @property
    def got_on(self) -> bool:
        """Whether it shows that the job can run."""
        return self.has_saved or self.seconds >= LONG_ATTEMPT_SECONDS


@dataclass(frozen=True)
class Next:
    """The state a job moves to, how long it then waits, and why it does not go on."""

    state: JobState
    wait_seconds: float = 0.0
    avoid_host: str | None = None
    """The next attempt goes to another host, if there is one."""
    why: str | None = None


def decide_next(stop_requested: str | None, history: Sequence[Past], max_attempts: int, chance: float = 1.0) -> Next:
    """Where a job goes after its last attempt. Pure.

    `history`: all attempts, oldest first. `stop_requested`: why it was asked to leave. `chance`: a random number from
    0 to 1, so that jobs that failed together do not come back together.
    """
    outcome = Outcome(history[-1].outcome)
    if outcome is Outcome.SUCCEEDED:
        return Next(JobState.SUCCEEDED)
    if stop_requested in CANCELS or outcome is Outcome.CANCELLED:
        return Next(JobState.CANCELLED)
    again = _decide_again(outcome, history, max_attempts, chance)
    # Who asked for a pause does not want it to go on by itself because its worker was drained or lost meanwhile.
    is_paused = outcome is Outcome.PAUSED or (stop_requested == "paused" and again.state is JobState.QUEUED)
    return Next(JobState.PAUSED, avoid_host=again.avoid_host) if is_paused else again


def _decide_again(outcome: Outcome, history: Sequence[Past], max_attempts: int, chance: float) -> Next:
    if outcome in HANDED_OVER:
        return Next(JobState.QUEUED)
    if outcome in TROUBLE:
        return _decide_after_trouble(outcome, history, chance)
    own_failures = sum(past.outcome not in NO_FAILURE for past in history)
    if outcome in NEVER_RETRIED or own_failures >= max_attempts:
        return Next(JobState.FAILED)
    return Next(JobState.QUEUED, _backoff(own_failures, chance))


def _decide_after_trouble(outcome: Outcome, history: Sequence[Past], chance: float) -> Next:
    troubles = _count_last(history, TROUBLE)
    if outcome in DEATHS and _count_last(history, DEATHS) >= DEATH_LIMIT:
        return Next(JobState.QUARANTINED, why=f"it lost its worker {DEATH_LIMIT} times in a row without getting on")
    hangs = sum(past.outcome == Outcome.HANG for past in _since_it_got_on(history))
    if outcome is Outcome.HANG and hangs >= HANG_LIMIT:
        return Next(JobState.FAILED, why=f"it hung {HANG_LIMIT} times without getting on")
    if troubles >= TROUBLE_LIMIT:
        return Next(JobState.FAILED, why=f"it met trouble of its machines {TROUBLE_LIMIT} times in a row without getting on")
    leaves_host = outcome is Outcome.DISK_FULL or (outcome is Outcome.HANG and hangs >= HANG_LIMIT - 1)
    return Next(JobState.QUEUED, _backoff(troubles, chance), (history[-1].host or None) if leaves_host else None)


def _since_it_got_on(history: Sequence[Past]) -> Sequence[Past]:
    """From the last attempt that got on, or all."""
    start = max((position for position, past in enumerate(history) if past.got_on), default=0)
    return history[start:]


def _count_last(history: Sequence[Past], outcomes: frozenset[Outcome]) -> int:
    """How many of the last attempts in a row ended so. One that got on before is where the row begins, and not part of it."""
    count = 0
    for past in reversed(history):
        if past.outcome not in outcomes or past.got_on:
            break
        count += 1
    return count


def _backoff(failures: int, chance: float) -> float:
    """Seconds to wait: exponential with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015)."""
    # The first retry is immediate: most lost runners are a machine that went away once.
    return 0.0 if failures <= 1 else chance * min(BACKOFF_SECONDS * 2.0 ** min(failures - 1, 30), LONGEST_BACKOFF_SECONDS)
