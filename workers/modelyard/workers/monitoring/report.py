"""The monitor's page: service levels, latencies, and whether the prompts drift."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.workers.monitoring.drift import Drift
from modelyard.workers.monitoring.interactions import Interaction
from modelyard.workers.report import draw_bars, place, write_html

TEMPLATES = Path(__file__).with_name("report_templates")
WIDTH, HEIGHT = 900.0, 140.0
"""Size of the drawings, in SVG units."""
BINS = 30


def write_report(path: Path, document: dict[str, Any], interactions: Sequence[Interaction], drift: Drift) -> None:
    """Write the self-contained page of one report (`report.json`)."""
    write_html(
        path,
        TEMPLATES,
        "monitor.html.jinja",
        report=document,
        latencies=_histogram([i.latency_seconds for i in interactions if i.is_answered]),
        permuted=_histogram([*drift.permuted, drift.discrepancy]),
        observed=_place_observed(drift),
        latest=list(interactions)[-10:],
        width=WIDTH,
        height=HEIGHT,
    )


def _histogram(values: Sequence[float]) -> dict[str, Any] | None:
    if not values:
        return None
    counts, edges = np.histogram(values, bins=BINS)
    return {"bars": draw_bars([float(count) for count in counts], WIDTH, HEIGHT), "low": edges[0], "high": edges[-1]}


def _place_observed(drift: Drift) -> float:
    values = [*drift.permuted, drift.discrepancy]
    return place(drift.discrepancy, min(values), max(values), WIDTH)
