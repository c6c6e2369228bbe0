"""Split documents into passages: whole paragraphs, up to a size that a model reads in one go."""

import re
from collections.abc import Iterator

PASSAGE_CHARACTERS = 2000
"""About 500 tokens: several packed sequences long, yet small enough that a held-out share is spread over all documents."""

_PARAGRAPHS = re.compile(r"\n\s*\n")
_BREAKS = ("\n", ". ", " ")
"""Where an overlong paragraph is cut, best first: between lines, sentences, words."""


def split_passages(text: str, limit: int = PASSAGE_CHARACTERS) -> Iterator[str]:
    """Yield passages of at most `limit` characters; paragraphs are cut only when one alone is longer."""
    block = ""
    for piece in _pieces(text, limit):
        joined = f"{block}\n\n{piece}" if block else piece
        if len(joined) > limit and block:
            yield block
            block = piece
        else:
            block = joined
    if block:
        yield block


def split_paragraphs(text: str) -> list[str]:
    """Return the blocks between blank lines."""
    return [paragraph for paragraph in _PARAGRAPHS.split(text) if paragraph.strip()]


def _pieces(text: str, limit: int) -> Iterator[str]:
    for paragraph in split_paragraphs(text):
        rest = paragraph
        while len(rest) > limit:
            cut = _cut(rest, limit)
            yield rest[:cut].rstrip()
            rest = rest[cut:].lstrip("\n ")
        if rest.strip():
            yield rest


def _cut(text: str, limit: int) -> int:
    for mark in _BREAKS:
        position = text.rfind(mark, limit // 2, limit)
        if position > 0:
            return position + len(mark)
    return limit
