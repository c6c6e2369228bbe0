"""Why a job waits, or why it failed, and what to do about it: a pure function over what is known."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from modelyard.domain.jobs.lifecycle import JobState, Outcome
from modelyard.domain.jobs.queues import parse_queue
from modelyard.domain.jobs.tables import Attempt, Job

FIXES: dict[str, str] = {
    Outcome.USER_CODE: "Read the log lines below; mend the spec or the data, then submit the job again.",
    Outcome.BAD_DATA: "Mend the rows named in the message, upload them again and submit the job with the new version.",
    Outcome.OOM_GPU: "Lower `micro_batch_size` or `sequence_length`, raise `gradient_accumulation_steps` or the ZeRO stage.",
    Outcome.OOM_HOST: "Lower `micro_batch_size`, or run on a machine with more memory.",
    Outcome.DISK_FULL: "Free space in the data directory of the worker, then submit the job again.",
    Outcome.NAN: "Lower `optimizer.learning_rate`, or look at the rows of the step that broke.",
    Outcome.RUNNER_LOST: "Nothing to do: the job continues by itself from its last checkpoint.",
    Outcome.NODE_LOST: "Nothing to do: the job continues by itself from its last checkpoint.",
    Outcome.HANG: "Look at the log lines below for the rank that stopped answering, then submit the job again.",
    Outcome.NCCL: "Look at the log lines below and at the network between the GPUs, then submit the job again.",
    Outcome.TIMEOUT: "Allow more time (`ready_within_seconds`), or mend what takes so long; then submit the job again.",
    Outcome.DEPENDENCY_FAILED: "Mend what the message names, then submit again.",
    Outcome.CANCELLED: "Submit the job again if it was cancelled by mistake.",
    "dependency": "Wait for the steps named in the message.",
    "traffic": "Send requests to the deployment: POST /v1/chat/completions.",
}

QUARANTINE_FIX = "It likely ends its own runner: look at the log lines below and at the memory it needs, then submit it again."


@dataclass(frozen=True)
class Situation:
    """Everything an explanation rests on."""

    job: Job
    attempts: Sequence[Attempt] = ()
    ahead: Sequence[Job] = ()
    """Waiting jobs of the same queue that go first."""
    running: Sequence[Job] = ()
    """Jobs of the same stage that hold slots."""
    serving: Sequence[str] = ()
    """Online workers that serve the job's queue."""
    log_lines: Sequence[str] = ()
    now: float = 0.0


@dataclass(frozen=True)
class Explanation:
    """One sentence, the facts behind it, and the way out."""

    state: str
    summary: str
    reason: str | None = None
    details: list[str] = field(default_factory=list)
    fix: str | None = None
    log_lines: list[str] = field(default_factory=list)


def explain(situation: Situation) -> Explanation:
    """Say why a job is where it is."""
    job = situation.job
    state = JobState(job.state)
    if state is JobState.QUEUED:
        return _explain_waiting(situation)
    if state is JobState.HELD:
        return Explanation(job.state, job.message or "Held", job.reason, fix=FIXES.get(job.reason or ""))
    if state in {JobState.FAILED, JobState.QUARANTINED}:
        return _explain_failure(situation)
    if state.is_active():
        worker = f"Attempt {job.attempt} runs on {job.worker_id}: {job.progress:.0%} {job.progress_message}".rstrip()
        asked = [f"It was asked to stop ({job.stop_requested}) and is saving."] if job.stop_requested else []
        return Explanation(job.state, worker, details=asked + _history(situation.attempts))
    if state is JobState.SUCCEEDED and job.started_at and job.finished_at:
        took = job.finished_at - job.started_at
        return Explanation(
            job.state, f"The job succeeded, {took:.0f} s after its last start.", details=_history(situation.attempts)
        )
    return Explanation(job.state, f"The job is {job.state}.", job.reason, details=_history(situation.attempts))


def _explain_waiting(situation: Situation) -> Explanation:
    job = situation.job
    details = [f"Before it in the queue: {_name(job, other)}" for other in situation.ahead]
    details += [f"Holds slots now: {_name(job, other)}, {other.kind}, {other.progress:.0%}" for other in situation.running]
    details += _history(situation.attempts)
    if job.not_before > situation.now:
        wait = job.not_before - situation.now
        return Explanation(job.state, f"Waits {wait:.0f} s before the next attempt: {job.message}", "backoff", details)
    if not situation.serving:
        stage, shape = parse_queue(job.queue)
        unit = {"any": "CPU slots or GPUs", "gpu": "GPUs", "cpu": "CPU slots"}[shape.accelerator]
        summary = f"No online worker serves the queue {job.queue}: it needs {shape.slots} {unit} in one worker."
        option = "--gpus" if shape.accelerator == "gpu" else f"--slots {shape.slots}"
        return Explanation(job.state, summary, "no_worker", details, f"Start one: modelyard worker --stages {stage} {option}")
    servers = ", ".join(situation.serving)
    if situation.running or situation.ahead:
        summary = f"Number {len(situation.ahead) + 1} in the queue {job.queue}, served by {servers}; it waits for free slots."
        return Explanation(job.state, summary, "no_free_slots", details, "Wait, or start another worker.")
    return Explanation(job.state, f"First in the queue {job.queue}, served by {servers}; it starts next.", "next", details)


def _explain_failure(situation: Situation) -> Explanation:
    job = situation.job
    summary = f"{job.kind} {job.name} {job.state}: {job.message or job.reason or 'no reason was given'}"
    fix = QUARANTINE_FIX if job.state == JobState.QUARANTINED else FIXES.get(job.reason or "")
    return Explanation(job.state, summary, job.reason, _history(situation.attempts), fix, list(situation.log_lines))


def _name(job: Job, other: Job) -> str:
    return f"{other.id} ({other.name})" if other.project_id == job.project_id else "a job of another project"


def _history(attempts: Sequence[Attempt]) -> list[str]:
    return [
        f"Attempt {past.seq} on {past.worker_id}: {past.outcome or 'running'}"
        + (f" (continued from step {past.resumed_from_step})" if past.resumed_from_step is not None else "")
        for past in attempts
    ]
