"""Wait until a job or a pipeline is done, through short outages of the server."""

import time
from collections.abc import Callable
from typing import Any

from modelyard.cli.errors import JobFailed, ServerUnreachable, WaitTimedOut

Document = dict[str, Any]

FINAL_STATES = frozenset({"succeeded", "failed", "cancelled", "quarantined"})
POLL_SECONDS = 0.5
OUTAGE_SECONDS = 60.0
"""A control plane that restarts is not a failed job: so long the wait goes on without an answer."""


def is_done(thing: Document) -> bool:
    """Whether a job or pipeline has come to its end. A service (`deploy`) is done once it is ready."""
    return thing["state"] in FINAL_STATES or thing.get("ready_at") is not None


def has_succeeded(thing: Document) -> bool:
    """Whether it is done as wished. A service that was ready and failed later has failed."""
    return thing["state"] == "succeeded" or (thing["state"] not in FINAL_STATES and thing.get("ready_at") is not None)


def wait_until(
    fetch: Callable[[], Document],
    ends: Callable[[Document], bool],
    seen: Callable[[Document], None],
    timeout_seconds: float | None = None,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Document:
    """Fetch again and again, showing each state to `seen`, until `ends` says so.

    Raises `WaitTimedOut` after `timeout_seconds`, `ServerUnreachable` when nobody answers for `OUTAGE_SECONDS`.
    """
    started = answered = clock()
    while True:
        try:
            thing = fetch()
            answered = clock()
            seen(thing)
            if ends(thing):
                return thing
        except ServerUnreachable:
            if clock() - answered > OUTAGE_SECONDS:
                raise
        if timeout_seconds is not None and clock() - started >= timeout_seconds:
            raise WaitTimedOut(f"Not done after {timeout_seconds:g} seconds; the work goes on: `modelyard watch` looks again")
        pause(POLL_SECONDS)


def raise_if_failed(thing: Document, explanation: Document | None = None) -> None:
    """Raise `JobFailed` with the cause and the way out unless the job succeeded."""
    if has_succeeded(thing):
        return
    error = thing.get("error") or {}
    cause = error.get("message") or thing.get("reason") or ""
    lines = [f"{thing.get('name') or thing['id']} is {thing['state']}: {cause}".rstrip(": ")]
    if explanation is not None:
        lines += [explanation["summary"], *map(str, explanation.get("details") or []), str(explanation.get("fix") or "")]
    raise JobFailed("\n".join(line for line in dict.fromkeys(lines) if line))
