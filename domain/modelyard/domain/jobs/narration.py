"""Events of a job in words: what happened, and why."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from modelyard.domain.jobs.lifecycle import JobState

DETAILS = frozenset({"phase", "figures"})
"""Types of events that a recipe tells often and that a person reads elsewhere, if at all."""
LONGEST = 500
"""Characters; what recipes tell has no bound of its own."""
HELD_FOR = {
    "dependency": "waits for the jobs it depends on",
    "traffic": "waits for traffic",
    "approval": "waits for approval",
    "start_time": "waits for its start time",
    "quota": "its project's quota is used up",
}
Data = Mapping[str, Any]


@dataclass(frozen=True)
class Narration:
    """One event in words."""

    what: str
    """Two or three words."""
    why: str
    """A clause; empty where `what` says it all."""


def narrate(type_: str, data: Data) -> Narration:
    """Say an event in words. Pure; what a recipe made up is shown as it is, shortened."""
    what, why = TELLERS.get(type_, _tell_unknown)({**data, "type": type_})
    return Narration(_shorten(what), _shorten(why))


def _tell_state(data: Data) -> tuple[str, str]:
    state, message = str(data.get("state")), _words(data.get("message"))
    outcome = data.get("outcome")
    if state == JobState.RUNNING:
        workers = data.get("workers")
        return "started", "on " + (", ".join(map(str, workers)) if isinstance(workers, list) else _words(data.get("worker")))
    if state == JobState.QUEUED and outcome is None:
        return ("submitted" if "reason" in data else "queued"), ""
    if state == JobState.HELD:
        reason = _words(data.get("reason"))
        return "held", HELD_FOR.get(reason, reason)
    if "reused_from" in data:
        return state, f"took over the outputs of {data['reused_from']}"
    cause = _words(outcome or data.get("reason")).replace("_", " ")
    said = [part for part in (cause if cause != state else "", message if message != outcome else "") if part]
    return ("queued again" if state == JobState.QUEUED else state), ": ".join(said)


def _tell_rollback(data: Data) -> tuple[str, str]:
    skipped = data.get("skipped_data_steps")
    parts = [f"{_words(data.get('why'))} at step {data.get('from_step')}: back at step {data.get('to_step')}".strip()]
    if isinstance(skipped, list) and len(skipped) == 2:
        parts.append(f"the data of steps {skipped[0]} to {skipped[1]} are left out")
    if data.get("rollbacks") is not None:
        parts.append(f"rollback {data['rollbacks']} of at most {data.get('max_rollbacks')}")
    return "rolled back", "; ".join(parts)


def _tell_leaving(data: Data) -> tuple[str, str]:
    reasons = [_words(data.get("reason"))]
    if data.get("for_priority") is not None:
        reasons.append(f"for a job of priority {data['for_priority']}")
    if data.get("worker") is not None:
        reasons.append(f"worker {data['worker']} is drained")
    return "asked to leave", ": ".join(reasons)


def _tell_error(data: Data) -> tuple[str, str]:
    where = "" if data.get("rank") is None else f" (rank {data['rank']})"
    return "error", f"{_words(data.get('reason')).replace('_', ' ')}{where}: {_words(data.get('message'))}"


def _tell_removal(data: Data) -> tuple[str, str]:
    steps = data.get("steps")
    return "checkpoints removed", f"of steps {', '.join(map(str, steps))}" if isinstance(steps, list) else ""


def _tell_unknown(data: Data) -> tuple[str, str]:
    """The type as it is written, then names and plain values."""
    plain = [f"{name} {value}" for name, value in data.items() if name != "type" and not isinstance(value, list | dict)]
    return str(data["type"]).replace("_", " "), ", ".join(plain)


TELLERS: dict[str, Callable[[Data], tuple[str, str]]] = {
    "state": _tell_state,
    "rolled_back": _tell_rollback,
    "asked_to_leave": _tell_leaving,
    "error": _tell_error,
    "checkpoints_removed": _tell_removal,
    "loss_spike": lambda data: ("loss spike", f"{_words(data.get('why'))}, at step {data.get('step')}"),
    "checkpoint": lambda data: ("saved", f"a checkpoint at step {data.get('step')}"),
    "output": lambda data: ("made", f"{_words(data.get('output_type'))} {_words(data.get('name'))}".strip()),
    "ready": lambda data: ("ready", "it answers requests"),
    "approved": lambda data: ("approved", ": ".join(_words(data[each]) for each in ("by", "comment") if data.get(each))),
    "reused": lambda data: ("outputs taken over", f"of {data.get('job_id')}"),
    "run_folder_removed": lambda data: ("run folder removed", f"on {data.get('host')}"),
    "phase": lambda data: ("phase", _words(data.get("name") or data.get("phase"))),
}
"""Type of event -> what tells it: what happened, and why."""


def _words(value: object) -> str:
    return "" if value is None else str(value)


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
