"""A pipeline as a drawing: one column per level of dependency, one box per step, one line per dependency."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelyard.domain.jobs.tables import Job

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, MARGIN = 176, 62, 44, 18, 2


@dataclass(frozen=True)
class Box:
    """A step and where it stands, in pixels."""

    job: Job
    x: int
    y: int


@dataclass(frozen=True)
class Graph:
    """What the template draws."""

    boxes: list[Box]
    lines: list[str]
    """SVG paths from each step to those that wait for it."""
    width: int
    height: int


def draw_graph(steps: Sequence[Job]) -> Graph:
    """Place the steps of a pipeline."""
    by_name = {step.step: step for step in steps if step.step}
    levels = find_levels({name: step.depends_on for name, step in by_name.items()})
    boxes: dict[str, Box] = {}
    filled: dict[int, int] = {}
    for name, step in by_name.items():
        column = levels[name]
        row = filled.get(column, 0)
        filled[column] = row + 1
        boxes[name] = Box(step, MARGIN + column * (BOX_WIDTH + GAP_X), MARGIN + row * (BOX_HEIGHT + GAP_Y))
    lines = [_line(boxes[need], box) for box in boxes.values() for need in box.job.depends_on]
    columns, rows = max(filled, default=0) + 1, max(filled.values(), default=1)
    width, height = columns * (BOX_WIDTH + GAP_X) - GAP_X, rows * (BOX_HEIGHT + GAP_Y) - GAP_Y
    return Graph(list(boxes.values()), lines, width + 2 * MARGIN, height + 2 * MARGIN)


def find_levels(dependencies: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Longest way from a step without dependencies to each step. The steps must not form a circle."""
    levels: dict[str, int] = {}

    def level(name: str) -> int:
        if name not in levels:
            levels[name] = max((level(need) + 1 for need in dependencies[name]), default=0)
        return levels[name]

    for name in dependencies:
        level(name)
    return levels


def _line(start: Box, end: Box) -> str:
    from_x, from_y = start.x + BOX_WIDTH, start.y + BOX_HEIGHT // 2
    to_x, to_y = end.x, end.y + BOX_HEIGHT // 2
    return f"M{from_x} {from_y} C{from_x + GAP_X} {from_y} {to_x - GAP_X} {to_y} {to_x} {to_y}"
