"""Cursor pages: the same shape for every list, readable for OpenAI clients too."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel

T = TypeVar("T")


class PageOf(BaseModel, Generic[T]):
    """One page. `next` is what `after` should be for the following one; None at the end."""

    object: Literal["list"] = "list"
    data: list[T]
    has_more: bool
    next: str | None = None


def make_page(rows: Sequence[Any], limit: int, show: Callable[[Any], T]) -> PageOf[T]:
    """A page of rows that were asked for with `limit + 1`, so that one more row means there is more."""
    shown = rows[:limit]
    has_more = len(rows) > limit
    return PageOf(data=[show(row) for row in shown], has_more=has_more, next=str(shown[-1].id) if has_more else None)
