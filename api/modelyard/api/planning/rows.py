"""Rows of a prepared dataset, spread over its training split, without reading all of it."""

import json
from dataclasses import dataclass
from typing import Any

from modelyard.api.errors import ApiError
from modelyard.domain.registry.tables import Dataset
from modelyard.kit.storage import ArtifactStore

FILE = "train.jsonl"
LOOKED_AT_BYTES = 8 * 2**20
"""Rows are taken from so much of the beginning of the split."""


@dataclass(frozen=True)
class Rows:
    """Some rows of a split."""

    rows: list[dict[str, Any]]
    numbers: list[int]
    """Which lines of the file they are, from 1."""
    of: int
    """Rows of the whole split."""


def read_rows(store: ArtifactStore, dataset: Dataset, count: int) -> Rows:
    """Rows evenly spread over what is looked at. Raises `ApiError` where the dataset has none that can be read."""
    try:
        start = store.read_start(dataset.artifact_key, FILE, LOOKED_AT_BYTES)
    except OSError as error:
        reason = f"dataset {dataset.name}@{dataset.version} has no {FILE}: prepare it with a `prepare` job first"
        raise ApiError(422, "dataset_not_prepared", reason, field="spec.dataset", value=dataset.name) from error
    lines = start.splitlines()
    if len(start) == LOOKED_AT_BYTES:
        lines.pop()  # cut in the middle
    numbers = [place * len(lines) // count + 1 for place in range(count)] if len(lines) > count else range(1, len(lines) + 1)
    try:
        rows = [json.loads(lines[number - 1]) for number in numbers]
    except ValueError as error:
        reason = f"{FILE} of dataset {dataset.name}@{dataset.version} is damaged ({error}); prepare it again"
        raise ApiError(422, "dataset_not_prepared", reason, field="spec.dataset", value=dataset.name) from error
    whole = dataset.details.get("rows", {})
    return Rows(rows, list(numbers), max(int(whole.get("train", 0)) if isinstance(whole, dict) else 0, len(lines)))
