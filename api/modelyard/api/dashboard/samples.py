"""The first rows of a dataset, read without reading all of it."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelyard.domain.registry.tables import Registered
from modelyard.kit.storage import ArtifactStore

ROWS = 12
START_BYTES = 256 * 1024
CHARACTERS = 600


@dataclass(frozen=True)
class Sample:
    """Some rows, each as text by column."""

    file: str
    columns: list[str]
    rows: list[list[str]]


def read_sample(store: ArtifactStore, dataset: Registered) -> Sample | None:
    """The first rows of a dataset; None if they cannot be shown as text."""
    format_ = str(dataset.details.get("format", "jsonl"))
    file = f"data.{format_}" if dataset.details.get("role") == "upload" else "train.jsonl"
    try:
        start = store.read_start(dataset.artifact_key, file, START_BYTES)
    except OSError:
        return None
    # The end of what was read may be half a line, or half a character.
    text = start.decode(errors="ignore")
    lines = text.splitlines() if len(start) < START_BYTES else text.splitlines()[:-1]
    return _make_sample(file, format_, [line for line in lines if line.strip()][: ROWS + 1])


def _make_sample(file: str, format_: str, lines: list[str]) -> Sample | None:
    if not lines:  # not even one whole row at the start
        return None
    if format_ == "jsonl":
        rows = [json.loads(line) for line in lines[:ROWS]]
        columns = list(dict.fromkeys(column for row in rows for column in row))
        return Sample(file, columns, [[_show(row.get(column, "")) for column in columns] for row in rows])
    if format_ == "csv":
        header, *records = csv.reader(lines)
        return Sample(file, header, [[_show(cell) for cell in record] for record in records])
    if format_ == "txt":
        return Sample(file, ["text"], [[_show(line)] for line in lines[:ROWS]])
    return None


def _show(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, Mapping) and {"role", "content"} <= item.keys() for item in value):
        value = "\n".join(f"{item['role']}: {item['content']}" for item in value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]} …"
