"""The evaluation as a page: the decision, the gains with their intervals, every item, and answers side by side."""

from pathlib import Path
from typing import Any

from modelyard.workers.report import draw_bars, place, write_html

TEMPLATES = Path(__file__).with_name("report_templates")
WIDTH, HEIGHT = 900.0, 160.0
"""Size of the drawings, in SVG units."""


def write_report(path: Path, document: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Write the self-contained page of one evaluation (`evaluation.json` and the rows of `items.jsonl`)."""
    gains = sorted((row["base"]["nll"] - row["candidate"]["nll"] for row in rows), reverse=True)
    write_html(
        path,
        TEMPLATES,
        "evaluation.html.jinja",
        evaluation=document,
        bars=draw_bars(gains, WIDTH, HEIGHT),
        better=sum(gain > 0 for gain in gains),
        intervals=[_draw_interval(name, interval) for name, interval in document["gains"].items()],
        answered=[row for row in rows if "answer" in row["base"]],
        width=WIDTH,
        height=HEIGHT,
    )


def _draw_interval(name: str, interval: dict[str, float]) -> dict[str, Any]:
    """Places on an axis of the interval's own: metrics have different units, so each has its own scale about 0."""
    reach = 1.15 * max(abs(interval["low"]), abs(interval["high"]), 1e-9)
    places = {key: place(interval[key], -reach, reach, WIDTH / 2) for key in ("low", "gain", "high")}
    return {"name": name, "places": places, "zero": place(0, -reach, reach, WIDTH / 2), **interval}
