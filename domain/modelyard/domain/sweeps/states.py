"""Where a sweep and its trials are in their lives. Closed lists."""

from enum import StrEnum


class SweepState(StrEnum):
    """Where a sweep is in its life."""

    RUNNING = "running"
    PAUSED = "paused"
    """Gives out no work until it is resumed; its trials are paused too."""
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    def is_finished(self) -> bool:
        """Whether nothing more will happen."""
        return self in {SweepState.SUCCEEDED, SweepState.FAILED, SweepState.CANCELLED}


class TrialState(StrEnum):
    """Where a trial is in its life."""

    RUNNING = "running"
    """Its job waits in its queue or runs, towards the next rung or to its end."""
    WAITING = "waiting"
    """Its job paused at a rung, and holds nothing; it goes on if it is promoted."""
    FINISHED = "finished"
    STOPPED = "stopped"
    """Ended without being finished: others were better, the GPU-hours were used up, or somebody cancelled it."""
    FAILED = "failed"
    """Its job failed, or was refused."""

    def is_over(self) -> bool:
        """Whether it will not go on."""
        return self in {TrialState.FINISHED, TrialState.STOPPED, TrialState.FAILED}
