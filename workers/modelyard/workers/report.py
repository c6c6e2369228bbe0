"""Reports people read: one HTML file that needs nothing from outside, with drawings as inline SVG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined

SHARED_TEMPLATES = Path(__file__).with_name("report_templates")


def write_html(path: Path, templates: Path, name: str, **values: Any) -> None:
    """Render a stage's template into a file. Everything is escaped: answers of a model are not to be trusted."""
    loader = ChoiceLoader([FileSystemLoader(templates), FileSystemLoader(SHARED_TEMPLATES)])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    path.write_text(environment.get_template(name).render(**values), encoding="utf-8")


def draw_bars(values: Sequence[float], width: float, height: float) -> list[dict[str, float]]:
    """Place one bar per value about a zero line: `x, y, width, height, value` in the drawing's own units."""
    top, bottom = max(0.0, *values), min(0.0, *values)
    scale = height / ((top - bottom) or 1.0)
    step = width / len(values)
    return [
        {
            "x": round(index * step, 2),
            "y": round((top - max(value, 0.0)) * scale, 2),
            "width": round(max(step * 0.85, 0.5), 2),
            "height": round(abs(value) * scale, 2),
            "value": value,
        }
        for index, value in enumerate(values)
    ]


def place(value: float, low: float, high: float, width: float) -> float:
    """Where a value stands on an axis from `low` to `high` that is `width` wide; outside it, at the edge."""
    share = (value - low) / ((high - low) or 1.0)
    return round(min(max(share, 0.0), 1.0) * width, 2)
