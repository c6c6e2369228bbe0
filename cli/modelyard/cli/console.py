"""Data goes to standard output, everything said to a person to standard error."""

import json
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


@cache
def messages() -> Console:
    """The console for progress and explanations: standard error."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


@cache
def results() -> Console:
    """The console for tables: standard output, as wide as it takes when no person looks at it."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 240)


def print_json(document: Any) -> None:
    """Print one JSON document on one line, at once, so that a script reading the pipe sees it."""
    print(json.dumps(document, ensure_ascii=False, default=str), flush=True)


def say(text: str, style: str = "") -> None:
    """Tell the person something, without reading markup into it."""
    messages().print(escape(text), style=style)


def print_table(titles: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Print a table of plain values. Ids are shown whole, however narrow the terminal: half an id is none."""
    texts = [["" if value is None else str(value) for value in row] for row in rows]
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for position, name in enumerate(titles):
        width = max((len(row[position]) for row in texts), default=0) if name == "id" else None
        table.add_column(name, min_width=width)
    for row in texts:
        table.add_row(*map(escape, row))
    results().print(table)


def format_figure(value: object) -> str:
    """A figure with as many digits as are worth reading: `0.4213`, `37.51`, `1 234`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}".replace(",", " ")


def format_figures(figures: dict[str, Any]) -> str:
    """`{"loss": 2.31, "rows": 1200}` as `loss 2.31 · rows 1 200`; nested values are left to `--json`."""
    flat = [(name, value) for name, value in figures.items() if not isinstance(value, dict | list)]
    return " · ".join(f"{name} {format_figure(value)}" for name, value in flat)
