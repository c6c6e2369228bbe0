"""How values look on a page: times, sizes, figures. Pure functions, used as template filters."""

import json
import math
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import yaml

from modelyard.domain.registry.tables import ID_PREFIXES

PLURALS = {
    "dataset": "datasets",
    "model": "models",
    "prompt": "prompts",
    "evaluation": "evaluations",
    "monitor_report": "reports",
    "deployment": "deployments",
}
"""Type of thing -> where its pages are."""
_ID_IN_BRACKETS = re.compile(r"\([a-z]+_[0-9a-f]{32}, ")
_PLACES = {
    "job": "jobs",
    "pipe": "pipelines",
    "swp": "sweeps",
    "sched": "schedules",
    "dep": PLURALS["deployment"],
    **{prefix: PLURALS[type_] for type_, prefix in ID_PREFIXES.items()},
}
_ID = re.compile(r"(?P<prefix>[a-z]+)_[0-9a-f]{32}")
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def show_duration(seconds: float | None) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `5 h 7 min`; nothing for None."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    rest = round(seconds)
    if rest < 60:
        return f"{rest} s"
    if rest < 3600:
        return f"{rest // 60} min {rest % 60} s"
    if rest < 2 * 86400:
        return f"{rest // 3600} h {rest % 3600 // 60} min"
    return f"{rest // 86400} d {rest % 86400 // 3600} h"


def show_age(at: float | None) -> str:
    """`just now`, `5 min ago`, `3 d ago`."""
    if at is None:
        return ""
    passed = time.time() - at
    for seconds, unit in _UNITS:
        if passed >= seconds:
            return f"{passed // seconds:.0f} {unit} ago"
    return "just now" if passed < 5 else f"{passed:.0f} s ago"


def show_time(at: float | None) -> str:
    """ISO 8601 in UTC, to the second."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def show_bytes(count: int) -> str:
    """`512 B`, `1.5 KiB`, `269 MiB`."""
    size, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.0f} {units[0]}" if size >= 100 or units[0] == "B" else f"{size:.1f} {units[0]}"


def show_value(value: object) -> str:
    """A figure as a person reads it; four significant digits for fractions."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if isinstance(value, float):
        return _show_float(value)
    if isinstance(value, list) and all(not isinstance(item, list | dict) for item in value):
        return ", ".join(show_value(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _show_float(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return show_value(int(value))
    if abs(value) >= 1000:
        return show_value(round(value))
    return f"{value:.2e}" if abs(value) < 0.001 else f"{value:.4g}"


def show_label(name: str) -> str:
    """`learning_rate` -> `learning rate`."""
    return name.replace("_", " ")


def show_yaml(value: Any) -> str:
    """A spec as one would write it."""
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)).rstrip()


def show_without_ids(message: str) -> str:
    """`base (job_0192…, running)` -> `base (running)`: on a page the id is a link elsewhere."""
    return _ID_IN_BRACKETS.sub("(", message)


def is_nested(value: object) -> bool:
    """Whether a value has names of its own and is shown as a table."""
    return isinstance(value, Mapping) and bool(value)


def page_of_id(value: object) -> str | None:
    """The page of the thing an id names; None for everything else."""
    match = _ID.fullmatch(value) if isinstance(value, str) else None
    return f"/{_PLACES[match['prefix']]}/{value}" if match and match["prefix"] in _PLACES else None


def link_to(thing: Mapping[str, Any]) -> str:
    """The page of a registered thing or deployment."""
    return f"/{PLURALS[thing['type']]}/{thing['id']}"


FILTERS = {
    "duration": show_duration,
    "age": show_age,
    "time": show_time,
    "bytes": show_bytes,
    "value": show_value,
    "label": show_label,
    "yaml": show_yaml,
    "without_ids": show_without_ids,
    "is_nested": is_nested,
    "link": link_to,
    "page_of_id": page_of_id,
}
