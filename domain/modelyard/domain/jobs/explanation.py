"""Why a job waits, runs, or failed, and what to do about it: a pure function over what is known."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from modelyard.domain.jobs.fixes import FIXES, PAUSED_FIX, QUARANTINE_FIX, TRIAL_FIX
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.prediction import TELLING_PROGRESS, Prediction, predict_start, remaining_seconds
from modelyard.domain.jobs.queues import parse_queue
from modelyard.domain.jobs.situation import Server, Situation
from modelyard.domain.jobs.tables import Attempt, Job
from modelyard.domain.specs import KINDS

UNITS = {"any": "CPU slots or GPUs", "gpu": "GPUs", "cpu": "CPU slots"}


@dataclass(frozen=True)
class Blocking:
    """Something a job waits for."""

    job_id: str | None
    """None where it belongs to another project."""
    name: str
    why: str


@dataclass(frozen=True)
class Explanation:
    """One sentence, the facts behind it, and the way out."""

    state: str
    summary: str
    reason: str | None = None
    details: list[str] = field(default_factory=list)
    fix: str | None = None
    log_lines: list[str] = field(default_factory=list)
    position: int | None = None
    """1 for the first in its queue."""
    blocking: list[Blocking] = field(default_factory=list)
    start: Prediction | None = None
    """When it will likely start, in seconds from now."""
    remaining_seconds: float | None = None
    """How long a running job likely still takes."""


def explain(situation: Situation) -> Explanation:
    """Say why a job is where it is."""
    found = _explain(situation)
    return replace(found, fix=found.fix and found.fix.replace("{id}", situation.job.id))


def _explain(situation: Situation) -> Explanation:
    job = situation.job
    state = JobState(job.state)
    if state is JobState.QUEUED:
        return _explain_waiting(situation)
    if state is JobState.HELD:
        history = _history(situation.attempts)
        message = situation.held_for or job.message or "Held"
        return Explanation(job.state, message, job.reason, details=history, fix=FIXES.get(job.reason or ""))
    if state in {JobState.FAILED, JobState.QUARANTINED}:
        return _explain_failure(situation)
    if state.is_active():
        return _explain_running(situation)
    if job.reused_from is not None:
        return Explanation(job.state, job.message or "", "reused")
    if state is JobState.SUCCEEDED and job.started_at and job.finished_at:
        took = job.finished_at - job.started_at
        summary = f"The job succeeded, {took:.0f} s after its last start."
        return Explanation(job.state, summary, details=_history(situation.attempts))
    summary = f"The job is {job.state}: {job.message}" if job.message else f"The job is {job.state}."
    fix = FIXES.get(job.reason or "") if state is JobState.CANCELLED else _say_how_to_go_on(job)
    return Explanation(job.state, summary, job.reason, details=_history(situation.attempts), fix=fix)


def _say_how_to_go_on(job: Job) -> str | None:
    if job.state != JobState.PAUSED:
        return None
    return PAUSED_FIX if job.pause_at_step is None else TRIAL_FIX


def _explain_waiting(situation: Situation) -> Explanation:
    job = situation.job
    details = _details(situation) + _history(situation.attempts)
    if not situation.servers:
        return _explain_no_worker(job, details)
    is_open = [server for server in situation.servers if not _refusal(job, server)]
    known = Explanation(
        job.state,
        "",
        details=details,
        position=len(situation.line) + 1,
        blocking=_list_blocking(situation),
        start=_predict(situation, is_open),
    )
    reason, summary = _say_waiting(situation, known, is_open)
    return replace(known, reason=reason, summary=summary, fix=FIXES.get(reason))


def _say_waiting(situation: Situation, known: Explanation, servers: Sequence[Server]) -> tuple[str, str]:
    job, names = situation.job, ", ".join(server.worker_id for server in servers)
    if job.not_before > situation.now:
        wait = job.not_before - situation.now
        return "backoff", f"Waits {wait:.0f} s before attempt {job.attempt + 1}; the one before: {job.message}"
    if not servers:
        return "workers_closed", f"No worker of the queue {job.queue} takes this job now: {_say_refusals(situation)}"
    place = f"{'Beyond number' if situation.line_is_longer else 'Number'} {known.position} in the queue {job.queue}"
    if job.nodes > 1:
        return "gang", f"{place}: {_say_gang(situation, names)}"
    if known.blocking or situation.line:
        return "no_free_slots", f"{place}, served by {names}; it waits for free slots."
    return "next", f"First in the queue {job.queue}, served by {names}; it starts next."


def _say_gang(situation: Situation, names: str) -> str:
    if situation.lingering:
        return f"it starts once what may still run of its last attempt on {', '.join(situation.lingering)} is certainly gone."
    job, room = situation.job, situation.nodes_with_room
    return f"it starts once {job.nodes} of {names} have {job.slots} slots free at the same moment; {room} have them now."


def _explain_no_worker(job: Job, details: list[str]) -> Explanation:
    stage, shape = parse_queue(job.queue)
    where = "in one worker" if shape.nodes == 1 else f"in each of {shape.nodes} workers"
    summary = f"No online worker serves the queue {job.queue}: it needs {shape.slots} {UNITS[shape.accelerator]} {where}."
    gpus = "0" if shape.slots == 1 else f"0-{shape.slots - 1}"
    option = f"--gpus {gpus}" if shape.accelerator == "gpu" else f"--slots {shape.slots}"
    fix = f"Start one: modelyard worker --stages {stage} {option}"
    return Explanation(job.state, summary, "no_worker", details, fix)


def _predict(situation: Situation, servers: Sequence[Server]) -> Prediction:
    job = situation.job
    if job.nodes > 1:
        return Prediction(None, None, "a gang needs several workers at the same moment, which is not predicted")
    if situation.line_is_longer:
        return Prediction(None, None, f"more than {len(situation.line)} jobs go first")
    room = {server.worker_id: server.slots for server in servers}
    return predict_start(job.slots, room, situation.occupied, situation.line, situation.past)


def _refusal(job: Job, server: Server) -> str | None:
    if server.host in job.avoid_hosts:
        return f"this job keeps away from {server.host}, where it was lost or hung"
    return server.takes_none_because


def _say_refusals(situation: Situation) -> str:
    return "; ".join(f"{server.worker_id}: {why}" for server in situation.servers if (why := _refusal(situation.job, server)))


def _details(situation: Situation) -> list[str]:
    refusals = _say_refusals(situation)
    lines = [f"Takes no job now: {refusals}"] if refusals else []
    for kept in situation.kept:
        whom = "this job" if kept.job.id == situation.job.id else _name(situation.job, kept.job)
        lines.append(f"{kept.slots} slots of {kept.worker_id} are kept free for {whom}")
    return lines + [f"{each.why}: {_label(each)}" for each in _list_blocking(situation)]


def _label(blocking: Blocking) -> str:
    return blocking.name if blocking.job_id is None else f"{blocking.job_id} ({blocking.name})"


def _list_blocking(situation: Situation) -> list[Blocking]:
    job = situation.job
    before = [_blocking(job, other, "Before it in the queue") for other in situation.ahead]
    return before + [
        _blocking(job, other, f"Holds slots of {other.worker_id} now ({other.kind}, {other.progress:.0%})")
        for other in situation.holders
    ]


def _blocking(job: Job, other: Job, why: str) -> Blocking:
    is_own = other.project_id == job.project_id
    return Blocking(other.id if is_own else None, other.name if is_own else "a job of another project", why)


def _explain_running(situation: Situation) -> Explanation:
    job = situation.job
    phase = f" ({situation.phase})" if situation.phase else ""
    summary = f"Attempt {job.attempt} runs on {job.worker_id}: {job.progress:.0%} {job.progress_message}".rstrip() + phase
    asked = [f"It was asked to stop ({job.stop_requested}) and is saving."] if job.stop_requested else []
    return Explanation(job.state, summary, details=asked + _history(situation.attempts), remaining_seconds=_remaining(situation))


def _remaining(situation: Situation) -> float | None:
    job = situation.job
    mine = next((each for each in situation.occupied if each.job_id == job.id), None)
    past = situation.past.get(job.kind)
    if mine is None or KINDS[job.kind].is_service or (past is None and mine.progress < TELLING_PROGRESS):
        return None
    return remaining_seconds(mine, past.typical if past else 0.0)


def _explain_failure(situation: Situation) -> Explanation:
    job = situation.job
    summary = f"{job.kind} {job.name} {job.state}: {job.message or job.reason or 'no reason was given'}"
    fix = QUARANTINE_FIX if job.state == JobState.QUARANTINED else FIXES.get(job.reason or "")
    last = situation.attempts[-1] if situation.attempts else None
    rank = [f"The first rank that failed: {last.failing_rank}"] if last and last.failing_rank is not None else []
    return Explanation(job.state, summary, job.reason, rank + _history(situation.attempts), fix, list(situation.log_lines))


def _name(job: Job, other: Job) -> str:
    return f"{other.id} ({other.name})" if other.project_id == job.project_id else "a job of another project"


def _history(attempts: Sequence[Attempt]) -> list[str]:
    return [
        f"Attempt {past.seq} on {past.worker_id}: {past.outcome or 'running'}"
        + (f" (continued from step {past.resumed_from_step})" if past.resumed_from_step is not None else "")
        + (f": {past.message}" if past.message and past.outcome not in {None, "succeeded"} else "")
        for past in attempts
    ]
