"""How an attempt ended: a pure decision over exit codes, what the recipe said, and what was asked of it."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.workers.recipe import EXIT_BAD_DATA, EXIT_NAN, EXIT_SAVED

EXIT_HANG = 77
BY_EXIT_CODE = {EXIT_BAD_DATA: Outcome.BAD_DATA, EXIT_NAN: Outcome.NAN, EXIT_HANG: Outcome.HANG}
BY_STOP_REASON = {
    "cancelled": Outcome.CANCELLED,
    "paused": Outcome.PAUSED,
    "drained": Outcome.DRAINED,
    "preempted": Outcome.PREEMPTED,
    "timeout": Outcome.TIMEOUT,
}
KILLED_FROM_OUTSIDE = frozenset({-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP})


@dataclass(frozen=True)
class Ending:
    """An outcome, one sentence about it, and the exit code that decided."""

    outcome: Outcome
    message: str | None = None
    exit_code: int | None = None
    failing_rank: int | None = None


def classify(
    exit_codes: Sequence[int],
    errors: Sequence[dict[str, Any]],
    stop_reason: str | None = None,
    last_line: str = "",
    is_service: bool = False,
) -> Ending:
    """Name the ending of an attempt.

    `exit_codes`: one per rank, negative for signals. `errors`: the `error` events, first one first. `stop_reason`: why the
    runner told the ranks to leave, if it did; then their exit codes, even a kill after the grace time, are our doing.
    """
    failed = [(rank, code) for rank, code in enumerate(exit_codes) if code not in {0, EXIT_SAVED}]
    # Once a rank fails we kill the others: what it died of says more than their signals.
    failed.sort(key=lambda entry: entry[1] in KILLED_FROM_OUTSIDE)
    if stop_reason is not None and (not errors or not failed):
        return _stopped(stop_reason, exit_codes)
    if errors:
        first = errors[0]
        outcome = Outcome(first["reason"]) if first.get("reason") in set(Outcome) else Outcome.USER_CODE
        return Ending(outcome, f"{first.get('message', '')}".strip() or None, _code_of(failed))
    if not failed:
        if EXIT_SAVED in exit_codes:
            return Ending(Outcome.RUNNER_LOST, "The recipe saved and left without being asked to", EXIT_SAVED)
        if is_service:
            return Ending(Outcome.USER_CODE, "The server ended by itself, without being asked to", 0)
        return Ending(Outcome.SUCCEEDED, None, 0)
    rank, code = failed[0]
    if code in BY_EXIT_CODE:
        return Ending(BY_EXIT_CODE[code], last_line or None, code)
    if code in KILLED_FROM_OUTSIDE:
        name = signal.Signals(-code).name
        return Ending(Outcome.RUNNER_LOST, f"Rank {rank} was killed from outside by {name}", code)
    return Ending(Outcome.USER_CODE, f"Rank {rank} ended with exit code {code}: {last_line}".rstrip(": "), code)


def _stopped(reason: str, exit_codes: Sequence[int]) -> Ending:
    saved = all(code in {0, EXIT_SAVED} for code in exit_codes)
    how = "saved and left" if saved else "did not leave in time and was killed"
    return Ending(
        BY_STOP_REASON.get(reason, Outcome.CANCELLED), f"Asked to stop ({reason}); {how}", EXIT_SAVED if saved else None
    )


def _code_of(failed: Sequence[tuple[int, int]]) -> int | None:
    return failed[0][1] if failed else None
