"""One line of a reckoning."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """So many bytes, and why."""

    name: str
    bytes: int
    formula: str
    """In words and numbers, so that it can be checked by hand."""


@dataclass(frozen=True)
class Moment:
    """What is held at a time."""

    name: str
    """`starting`, `answering`, `learning` or `merging`."""
    pieces: tuple[Piece, ...]


def find_fullest(moments: Iterable[Moment]) -> Moment:
    """The moment with the most bytes; pieces of nothing are left out of it."""
    fullest = max(moments, key=lambda moment: total_bytes(moment.pieces))
    return Moment(fullest.name, tuple(piece for piece in fullest.pieces if piece.bytes))


def total_bytes(pieces: Iterable[Piece]) -> int:
    """Their sum."""
    return sum(piece.bytes for piece in pieces)


def say_bytes(count: float) -> str:
    """`1.5 GiB`. Pure."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(count) >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"
