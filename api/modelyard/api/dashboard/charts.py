"""Curves as the page draws them: one chart per metric, training and validation of the same metric together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelyard.api.dashboard.formatting import show_label, show_value
from modelyard.domain.jobs.curves import Curve
from modelyard.domain.jobs.measurements import is_of_machine

SIDES = {"train_": "train", "validation_": "validation", "eval_": "validation", "heldout_": "held out"}
RANKS = {"smallest_": "smallest of a rank", "slowest_": "slowest rank", "fastest_": "fastest rank"}
"""How a metric's name tells which rank's value it is; without, it is the largest."""
PREFIXES = {**SIDES, **RANKS}
"""How a metric's name tells what it was measured on."""


@dataclass(frozen=True)
class Chart:
    """One drawing: what uPlot needs, and a caption for those who cannot see it."""

    title: str
    labels: list[str]
    data: list[list[float | None]]
    """The x values, then one list of y values per label, all of the same length; None where a curve has no point."""
    caption: str
    is_time: bool = False
    """Whether x is seconds since the epoch rather than a number."""
    x_label: str = "step"
    is_scatter: bool = False
    """Whether the points have nothing to do with their neighbours: no line joins them."""
    is_log: bool = False
    """Whether x is drawn logarithmically."""

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "title": self.title,
            "labels": self.labels,
            "data": self.data,
            "caption": self.caption,
            "is_time": self.is_time,
            "x_label": self.x_label,
            "is_scatter": self.is_scatter,
            "is_log": self.is_log,
        }


def make_charts(curves: Sequence[Curve]) -> list[Chart]:
    """Group curves by what they measure. A curve that stands alone keeps its whole name."""
    groups: dict[str, list[tuple[str, Curve]]] = {}
    for curve in curves:
        metric, side = _split(curve.name)
        groups.setdefault(metric, []).append((side, curve))
    return [_make_chart(metric, members) for metric, members in sorted(groups.items(), key=_importance)]


def _importance(group: tuple[str, Any]) -> tuple[bool, bool, str]:
    return group[0] != "loss", is_of_machine(group[0]), group[0]


def _split(name: str) -> tuple[str, str]:
    prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
    return name.removeprefix(prefix), PREFIXES.get(prefix, "largest of a rank" if is_of_machine(name) else "train")


def _make_chart(metric: str, members: list[tuple[str, Curve]]) -> Chart:
    is_alone = len(members) == 1
    members = sorted(members, key=lambda member: member[0] != "train")
    title = members[0][1].name if is_alone else metric
    labels = [show_label(curve.name) if is_alone else side for side, curve in members]
    caption = "; ".join(_describe("" if is_alone else f"{side} ", curve) for side, curve in members)
    return Chart(show_label(title), labels, join([curve.points for _, curve in members]), caption)


def join(curves: Sequence[Sequence[tuple[float, float]]]) -> list[list[float | None]]:
    """Curves with x values of their own on one common axis."""
    positions = sorted({x for points in curves for x, _ in points})
    columns: list[list[float | None]] = [list(positions)]
    for points in curves:
        values = dict(points)
        columns.append([values.get(x) for x in positions])
    return columns


def _describe(side: str, curve: Curve) -> str:
    if not curve.points:
        return f"{side}no finite value among {curve.reported}"
    step, value = curve.points[-1]
    text = f"{side}{show_value(value)} at step {step}"
    if curve.smallest != curve.largest:
        text += f", range {show_value(curve.smallest)} to {show_value(curve.largest)}"
    return f"{text}, {curve.not_finite} of {curve.reported} values were not finite" if curve.not_finite else text
