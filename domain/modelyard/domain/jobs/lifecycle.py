"""The states of a job and the legal moves between them, as data; and the outcomes an attempt can have."""

from enum import StrEnum

from modelyard.domain.errors import Conflict


class JobState(StrEnum):
    """Where a job is in its life."""

    HELD = "held"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    QUARANTINED = "quarantined"

    def is_finished(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self in FINISHED

    def is_active(self) -> bool:
        """Whether an attempt is running, with a lease and slots."""
        return self in ACTIVE


FINISHED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.QUARANTINED})
ACTIVE = frozenset({JobState.RUNNING, JobState.PAUSING, JobState.CANCELLING})

_S = JobState
LEGAL_MOVES: dict[JobState, frozenset[JobState]] = {
    _S.HELD: frozenset({_S.QUEUED, _S.PAUSED, _S.CANCELLED, _S.FAILED, _S.SUCCEEDED}),
    _S.QUEUED: frozenset({_S.RUNNING, _S.HELD, _S.PAUSED, _S.CANCELLED, _S.FAILED, _S.QUARANTINED}),
    # Straight to `paused`: a trial of a sweep pauses by itself, at the step it was told at its start.
    _S.RUNNING: frozenset(
        {_S.SUCCEEDED, _S.FAILED, _S.QUEUED, _S.PAUSING, _S.PAUSED, _S.CANCELLING, _S.CANCELLED, _S.QUARANTINED}
    ),
    _S.PAUSING: frozenset({_S.PAUSED, _S.SUCCEEDED, _S.FAILED, _S.QUEUED, _S.CANCELLING, _S.QUARANTINED}),
    _S.PAUSED: frozenset({_S.QUEUED, _S.HELD, _S.CANCELLED}),
    _S.CANCELLING: frozenset({_S.CANCELLED, _S.SUCCEEDED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.QUARANTINED: frozenset(),
}


class HeldReason(StrEnum):
    """What a held job waits for. A closed list."""

    DEPENDENCY = "dependency"
    TRAFFIC = "traffic"
    APPROVAL = "approval"
    START_TIME = "start_time"
    QUOTA = "quota"


class Outcome(StrEnum):
    """How an attempt ended. A closed list: every ending has one of these names."""

    SUCCEEDED = "succeeded"
    USER_CODE = "user_code"
    BAD_DATA = "bad_data"
    OOM_GPU = "oom_gpu"
    OOM_HOST = "oom_host"
    DISK_FULL = "disk_full"
    NAN = "nan"
    HANG = "hang"
    NCCL = "nccl"
    NODE_LOST = "node_lost"
    RUNNER_LOST = "runner_lost"
    DRAINED = "drained"
    PREEMPTED = "preempted"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    DEPENDENCY_FAILED = "dependency_failed"


class IllegalMove(Conflict):
    """The job cannot go from where it is to where it was asked to go."""

    code = "illegal_move"

    def __init__(self, job_id: str, state: str, wanted: JobState) -> None:
        super().__init__(f"Job {job_id} is {state} and cannot become {wanted}")


class StaleAttempt(Conflict):
    """Another attempt owns the job by now; nothing was written."""

    code = "stale_attempt"

    def __init__(self, job_id: str, attempt: int) -> None:
        super().__init__(f"Attempt {attempt} no longer owns job {job_id}")


def check_move(job_id: str, state: str, wanted: JobState) -> None:
    """Raise `IllegalMove` unless the table allows the move."""
    if wanted not in LEGAL_MOVES[JobState(state)]:
        raise IllegalMove(job_id, state, wanted)
