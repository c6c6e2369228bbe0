"""An explanation as lines a person reads."""

from datetime import UTC, datetime
from typing import Any

Document = dict[str, Any]


def say_explanation(found: Document, now: datetime | None = None) -> list[str]:
    """The summary, the facts, when it will likely start or end, the last log lines, and the way out. Pure but for the clock."""
    now = now or datetime.now(UTC)
    lines = [f"{found['state']}: {found['summary']}", *(f"  {detail}" for detail in found["details"])]
    lines += _say_prediction(found, now)
    lines += [f"  | {line}" for line in found["log_lines"]]
    return [*lines, f"what to do: {found['fix']}"] if found["fix"] else lines


def _say_prediction(found: Document, now: datetime) -> list[str]:
    start, end = found["predicted_start"], found["predicted_end"]
    if start and start["expected"]:
        expected, earliest = say_moment(start["expected"], now), say_moment(start["earliest"], now)
        return [f"likely starts {expected}, earliest {earliest} ({start['basis']})"]
    if start:
        return [f"when it starts is not known: {start['basis']}"]
    return [f"likely ends {say_moment(end, now)}"] if end else []


def say_moment(text: str, now: datetime) -> str:
    """`in 5 min`."""
    seconds = (datetime.fromisoformat(text) - now).total_seconds()
    if seconds < 1:
        return "now"
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"in {seconds / length:.0f} {unit}"
    return f"in {seconds:.0f} s"
