"""How an attempt ended: a pure decision over exit codes, what the recipe and the logs say, and what was asked of it.

`node_lost` is decided by the scheduler, when a lease ends; `dependency_failed` before a job ever runs.
"""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.workers.recipe import EXIT_BAD_DATA, EXIT_NAN, EXIT_SAVED
from modelyard.workers.runner.symptoms import find_cause, is_connection_lost

EXIT_HANG = 77
BY_EXIT_CODE = {EXIT_BAD_DATA: Outcome.BAD_DATA, EXIT_NAN: Outcome.NAN, EXIT_HANG: Outcome.HANG}
BY_STOP_REASON = {
    "cancelled": Outcome.CANCELLED,
    "discarded": Outcome.CANCELLED,
    "paused": Outcome.PAUSED,
    "drained": Outcome.DRAINED,
    "preempted": Outcome.PREEMPTED,
    "timeout": Outcome.TIMEOUT,
}
KILLED_FROM_OUTSIDE = frozenset({-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP})


@dataclass(frozen=True)
class Ending:
    """An outcome, one sentence about it, the exit code that decided, and the first rank that failed."""

    outcome: Outcome
    message: str | None = None
    exit_code: int | None = None
    failing_rank: int | None = None


@dataclass(frozen=True)
class Evidence:
    """What is left of an attempt when its ranks are gone."""

    exit_codes: Sequence[int | None]
    """One per rank, negative for signals; None for a rank that lived until we ended it because of another."""
    errors: Sequence[Mapping[str, Any]] = ()
    """`error` events of all ranks: `{"reason", "message", "rank", "at"}`."""
    stop_reason: str | None = None
    """Why the runner told the ranks to leave, if it did; then their exit codes, even of a kill, are our doing."""
    last_lines: Mapping[int, Sequence[str]] = field(default_factory=dict)
    """Rank -> the end of its log."""
    is_service: bool = False
    oom_kills: int = 0
    """Processes of the attempt the kernel killed for want of memory, where it counts them."""
    pause_at_step: int | None = None
    """The step after which the job was to pause by itself, if it was."""
    first_rank: int = 0
    """The global number of the first of these ranks, on machines of a gang other than the first."""


def classify(evidence: Evidence) -> Ending:
    """Name the ending of an attempt, by its first cause: what other ranks then met is a consequence."""
    codes = dict(enumerate(evidence.exit_codes, start=evidence.first_rank))
    failed = {rank: code for rank, code in codes.items() if code not in {None, 0, EXIT_SAVED}}
    told = sorted(evidence.errors, key=lambda error: float(error.get("at", 0.0)))
    causes = [error for error in told if not _is_consequence(error)]
    is_done = all(code == 0 for code in codes.values()) and not evidence.is_service
    if evidence.stop_reason is not None and (not causes or not failed) and not is_done:
        return _stopped(evidence.stop_reason, evidence.exit_codes)
    if causes:
        return _from_error(causes[0], codes)
    silent = {rank: code for rank, code in failed.items() if rank not in {error.get("rank") for error in told}}
    ending = _from_logs(evidence, failed) or _from_codes(evidence, silent)
    if ending is not None:
        return ending
    if told:
        return _from_error(told[0], codes)
    return _ended_by_itself(evidence)


def _is_consequence(error: Mapping[str, Any]) -> bool:
    message = str(error.get("message", ""))
    return error.get("reason") in {"nccl", "user_code"} and is_connection_lost(message) and find_cause([message]) is None


def _from_error(error: Mapping[str, Any], codes: Mapping[int, int | None]) -> Ending:
    message, rank = str(error.get("message", "")).strip(), error.get("rank")
    outcome = Outcome(error["reason"]) if error.get("reason") in set(Outcome) else Outcome.USER_CODE
    if outcome is Outcome.USER_CODE:
        found = find_cause(message.splitlines())
        outcome = found[0] if found else Outcome.NCCL if is_connection_lost(message) else outcome
    code = EXIT_HANG if outcome is Outcome.HANG else codes.get(rank) if rank is not None else _first_code(codes)
    return Ending(outcome, message or None, code, rank)


def _from_logs(evidence: Evidence, failed: Mapping[int, int | None]) -> Ending | None:
    for rank, code in failed.items():
        found = find_cause(evidence.last_lines.get(rank, ()))
        if found is not None and code not in BY_EXIT_CODE:
            outcome, line = found
            return Ending(outcome, f"Rank {rank}: {line[:500]}", code, rank)
    return None


def _from_codes(evidence: Evidence, silent: Mapping[int, int | None]) -> Ending | None:
    """By the ranks that died without a word; those killed from outside last, since something else may have come before."""
    for rank, code in sorted(silent.items(), key=lambda entry: entry[1] in KILLED_FROM_OUTSIDE):
        assert code is not None
        line = _last_line(evidence, rank)
        if code in BY_EXIT_CODE:
            return Ending(BY_EXIT_CODE[code], line or None, code, rank)
        if code in KILLED_FROM_OUTSIDE:
            return _killed(evidence, rank, code)
        if any(is_connection_lost(each) for each in evidence.last_lines.get(rank, ())):
            lost = next(each for each in evidence.last_lines[rank] if is_connection_lost(each))
            first = _first_killed(evidence, silent)
            return first or Ending(Outcome.NCCL, f"Rank {rank}: {lost.strip()[:500]}", code, rank)
        return Ending(Outcome.USER_CODE, f"Rank {rank} ended with {_name_of(code)}: {line}".rstrip(": "), code, rank)
    return None


def _first_killed(evidence: Evidence, silent: Mapping[int, int | None]) -> Ending | None:
    return next((_killed(evidence, rank, code) for rank, code in silent.items() if code in KILLED_FROM_OUTSIDE and code), None)


def _killed(evidence: Evidence, rank: int, code: int) -> Ending:
    if code == -signal.SIGKILL and evidence.oom_kills:
        message = f"Rank {rank} was killed by the kernel: the machine, or what it allows this job, is out of memory"
        return Ending(Outcome.OOM_HOST, message, code, rank)
    return Ending(Outcome.RUNNER_LOST, f"Rank {rank} was killed from outside by {signal.Signals(-code).name}", code, rank)


def _ended_by_itself(evidence: Evidence) -> Ending:
    if EXIT_SAVED in evidence.exit_codes and evidence.pause_at_step is not None:
        return Ending(Outcome.PAUSED, describe_pause(evidence.pause_at_step), EXIT_SAVED)
    if EXIT_SAVED in evidence.exit_codes:
        return Ending(Outcome.RUNNER_LOST, "The recipe saved and left without being asked to", EXIT_SAVED)
    if None in evidence.exit_codes:
        return Ending(Outcome.RUNNER_LOST, "The ranks were ended although none of them had failed")
    if evidence.is_service:
        return Ending(Outcome.USER_CODE, "The server ended by itself, without being asked to", 0)
    return Ending(Outcome.SUCCEEDED, None, 0)


def describe_pause(step: int) -> str:
    """One sentence about a job that paused by itself."""
    return f"Paused after step {step}, where its sweep decides whether it goes on"


def _stopped(reason: str, exit_codes: Sequence[int | None]) -> Ending:
    saved = all(code in {0, EXIT_SAVED} for code in exit_codes)
    how = "saved and left" if saved else "did not leave in time and was killed"
    if reason == "discarded":
        how = "left without keeping its checkpoints"
    return Ending(
        BY_STOP_REASON.get(reason, Outcome.CANCELLED), f"Asked to stop ({reason}); {how}", EXIT_SAVED if saved else None
    )


def _last_line(evidence: Evidence, rank: int) -> str:
    lines = [line.strip() for line in evidence.last_lines.get(rank, ()) if line.strip()]
    return lines[-1][:500] if lines else ""


def _first_code(codes: Mapping[int, int | None]) -> int | None:
    own = [code for code in codes.values() if code not in {None, 0, EXIT_SAVED}]
    return min(own, key=lambda code: code in KILLED_FROM_OUTSIDE) if own else None


def _name_of(code: int) -> str:
    if code < 0 and -code in set(signal.Signals):
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
