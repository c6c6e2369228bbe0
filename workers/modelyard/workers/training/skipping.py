"""Which data a step reads once some of it is left out."""

from collections.abc import Iterable

Span = list[int]
"""First and last data step, both included."""


def data_step_of(step: int, skipped: Iterable[Span]) -> int:
    """Return which data step an optimizer step reads, both counted from 0. Pure.

    Data step n is what step n reads where nothing is left out; `skipped` are spans that share none.
    """
    for first, last in sorted(skipped):
        if step < first:
            break
        step += last - first + 1
    return step


def add_span(skipped: Iterable[Span], added: Span) -> list[Span]:
    """Return the spans with one more, in order; those that overlap become one. Pure."""
    joined: list[Span] = []
    for first, last in sorted([*skipped, added]):
        if joined and first <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], last)
        else:
            joined.append([first, last])
    return joined
