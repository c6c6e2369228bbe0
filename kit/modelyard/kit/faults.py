"""Named places where a process can be made to die or fail, to prove that nothing is lost there.

`MODELYARD_FAULT=claim_before_commit:kill` kills the process at that place, `…:raise` raises there; `…:kill:/path/token` does so
once: whoever creates the token first. Several are separated by commas. Unset, a place costs one look into an empty dictionary.
"""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "MODELYARD_FAULT"
ACTIONS = ("kill", "raise")
POINTS: dict[str, str] = {
    "after_commit_before_publish": "API: the job is in the database, its ticket not yet in Redis",
    "before_ring": "scheduler: about to send missing tickets",
    "after_ring": "scheduler: missing tickets were sent, nothing noted",
    "claim_before_commit": "worker: the claim is written but not committed",
    "claim_after_commit_before_runner": "worker: the job is claimed, no runner started",
    "runner_after_start_before_ranks": "runner: it owns the lease, no rank started",
    "checkpoint_after_store_before_record": "runner: the checkpoint is stored, the database does not know",
    "outputs_after_store_before_report": "runner: the outputs are stored, the database does not know",
    "report_after_commit_before_exit": "runner: the end is reported, the process still there",
    "lease_end_before_ring": "scheduler: a dead lease was ended, nobody was told",
    "pipeline_between_steps": "scheduler: one held job was moved on, the next not looked at",
    "slot_before_commit": "scheduler: a slot of a schedule and its job are written but not committed",
    "sweep_before_commit": "scheduler: what was decided about a sweep is written but not committed",
    "sweep_between_actions": "scheduler: one thing about a sweep is done, the next not decided",
}
"""Every place there is, and what is half done there."""


class UnknownFault(ValueError):
    """`MODELYARD_FAULT` cannot be understood: a typo must not look like a test that passed."""


class InjectedFault(Exception):
    """Raised where `MODELYARD_FAULT` says so."""


@dataclass(frozen=True)
class Fault:
    """What happens at a place."""

    action: str
    token: Path | None = None

    def fire(self, point: str) -> None:
        """Do it, unless the token says that it was done before."""
        if self.token is not None and not _take(self.token):
            return
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise InjectedFault(f"injected at {point}")


def parse_faults(text: str) -> dict[str, Fault]:
    """Read `point:action[:token],…`. Raises `UnknownFault`."""
    faults = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        point, _, rest = entry.partition(":")
        action, _, token = rest.partition(":")
        if point not in POINTS or action not in ACTIONS:
            known = f"points are {', '.join(POINTS)}; actions are {', '.join(ACTIONS)}"
            raise UnknownFault(f"{VARIABLE}: {entry!r} is not point:action[:token]; {known}")
        faults[point] = Fault(action, Path(token) if token else None)
    return faults


def fault(point: str) -> None:
    """Do what `MODELYARD_FAULT` said at the start of this process for this place: usually nothing."""
    if _ARMED and point in _ARMED:
        _ARMED[point].fire(point)


def _take(token: Path) -> bool:
    try:
        os.close(os.open(token, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


_ARMED = parse_faults(os.environ.get(VARIABLE, ""))
