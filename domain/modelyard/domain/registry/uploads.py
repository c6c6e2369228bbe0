"""What may be uploaded as a dataset, checked row by row; errors name file, line and why."""

import csv
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from modelyard.domain.errors import InvalidRequest

FORMATS = ("jsonl", "csv", "txt", "parquet")
MAX_FIELD_CHARACTERS = 2**31 - 1
"""Python's csv module stops at 131,072 characters unless told otherwise; documents are longer."""


class MalformedDataset(InvalidRequest):
    """The file cannot be read as what its name says it is."""

    code = "malformed_dataset"

    def __init__(self, filename: str, reason: str, line: int | None = None) -> None:
        place = f"{filename}, line {line}" if line is not None else filename
        super().__init__(f"{place}: {reason}", field="file", value=filename)


def format_of(filename: str) -> str:
    """The format a file name stands for. Raises `MalformedDataset` for others."""
    suffix = Path(filename).suffix.lower().lstrip(".")
    if suffix not in FORMATS:
        raise MalformedDataset(
            filename or "(no name)", f"the name must end in one of {', '.join('.' + each for each in FORMATS)}"
        )
    return suffix


def check_upload(path: Path, format_: str, filename: str) -> dict[str, Any]:
    """Read every row. Returns `{"rows", "columns"}`; raises `MalformedDataset` at the first row that is wrong."""
    check = {"jsonl": _check_jsonl, "csv": _check_csv, "txt": _check_txt, "parquet": _check_parquet}[format_]
    rows, columns = check(path, filename)
    if rows == 0:
        raise MalformedDataset(filename, "there is no row in it")
    return {"rows": rows, "columns": columns}


def _check_jsonl(path: Path, filename: str) -> tuple[int, list[str]]:
    rows, columns = 0, dict[str, None]()
    for number, line in _lines(path, filename):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise MalformedDataset(filename, f"not JSON: {error}", number) from error
        if not isinstance(row, dict):
            raise MalformedDataset(filename, f"a row is a JSON object, this is a {type(row).__name__}", number)
        columns.update(dict.fromkeys(row))
        rows += 1
    return rows, list(islice(columns, 100))


def _check_csv(path: Path, filename: str) -> tuple[int, list[str]]:
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    reader = csv.reader((line for _, line in _lines(path, filename)), strict=True)
    rows = 0
    try:
        header = next(reader, [])
        for row in filter(None, reader):  # a blank line is no row
            if len(row) != len(header):
                raise MalformedDataset(filename, f"{len(row)} columns, but the header has {len(header)}", reader.line_num)
            rows += 1
    except csv.Error as error:
        raise MalformedDataset(filename, str(error), reader.line_num) from error
    return rows, header


def _check_txt(path: Path, filename: str) -> tuple[int, list[str]]:
    return sum(1 for _, line in _lines(path, filename) if line.strip()), ["text"]


def _check_parquet(path: Path, filename: str) -> tuple[int, list[str]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        rows = sum(batch.num_rows for batch in file.iter_batches())
    except (pyarrow.ArrowException, OSError) as error:
        raise MalformedDataset(filename, f"not a readable Parquet file: {error}") from error
    return rows, list(file.schema_arrow.names)


def _lines(path: Path, filename: str) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                # A byte order mark is no character of the text; only this codec drops it.
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                reason = f"byte {error.start + 1} of the line is not UTF-8; save the file as UTF-8"
                raise MalformedDataset(filename, reason, number) from error
