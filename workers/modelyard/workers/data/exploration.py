"""Describe a dataset in figures: how much, how long, which words."""

import re
import statistics
from collections import Counter
from typing import Any

from modelyard.workers.data.rows import Row, text_of

BINS = 24
FREQUENT_WORDS = 25
SAMPLE_ROWS = 5
SAMPLE_CHARACTERS = 600

_WORDS = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def explore(train: list[Row], heldout: list[Row]) -> dict[str, Any]:
    """Return the figures of both splits together, and rows to look at."""
    texts = [text_of(row) for row in train + heldout]
    words = Counter(word for text in texts for word in _WORDS.findall(text.lower()))
    return {
        "characters": summarize([len(text) for text in texts]),
        "words": summarize([len(_WORDS.findall(text)) for text in texts]),
        "vocabulary_size": len(words),
        # Ties in alphabetical order: a Counter keeps them in order of arrival.
        "frequent_words": sorted(words.items(), key=lambda item: (-item[1], item[0]))[:FREQUENT_WORDS],
        "samples": [text_of(row)[:SAMPLE_CHARACTERS] for row in _spread(train, SAMPLE_ROWS)],
    }


def summarize(lengths: list[int]) -> dict[str, Any]:
    """Return total, mean, median, extremes and a histogram of row lengths."""
    return {
        "total": sum(lengths),
        "mean": round(statistics.fmean(lengths), 2),
        "median": statistics.median(lengths),
        "min": min(lengths),
        "max": max(lengths),
        "histogram": histogram(lengths),
    }


def histogram(lengths: list[int], bins: int = BINS) -> list[dict[str, int]]:
    """Return equal bins `{"from", "to", "rows"}` (`to` excluded); the last also holds the longest 1 %."""
    ordered = sorted(lengths)
    top = ordered[int(0.99 * (len(ordered) - 1))]
    width = max(1, -(-(top + 1 - ordered[0]) // bins))
    counts = Counter(min((length - ordered[0]) // width, bins - 1) for length in lengths)
    last = max(counts)
    edges = [ordered[0] + width * index for index in range(last + 2)]
    edges[-1] = max(edges[-1], ordered[-1] + 1)
    return [{"from": edges[index], "to": edges[index + 1], "rows": counts[index]} for index in range(last + 1)]


def _spread(rows: list[Row], count: int) -> list[Row]:
    step = max(1, len(rows) // count)
    return rows[::step][:count]
