"""Read the file formats a source may have, one record at a time. Every reader raises `BadData` naming file and line."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from modelyard.workers.data.records import Record
from modelyard.workers.recipe import BadData

Reader = Callable[[Path, str, str], Iterator[Record]]

MAX_FIELD_CHARACTERS = 2**31 - 1
"""Python's csv module stops at 131,072 characters unless told otherwise; documents are longer."""


def read_text(path: Path, name: str, encoding: str) -> Iterator[Record]:
    """Yield the file as one document."""
    yield Record({"text": _decode(path.read_bytes(), name, encoding)}, name, 1)


def read_jsonl(path: Path, name: str, encoding: str) -> Iterator[Record]:
    """Yield the object of every line that is not blank."""
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            line = _decode(raw, name, encoding, first_line=number).strip()
            if line:
                yield Record(_parse_object(line, f"{name}, line {number}"), name, number)


def read_csv(path: Path, name: str, encoding: str) -> Iterator[Record]:
    """Yield the rows below the header line; every row must have as many fields as the header."""
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    reader = csv.DictReader(io.StringIO(_decode(path.read_bytes(), name, encoding), newline=""), strict=True)
    try:
        for values in reader:
            if None in values or None in values.values():
                raise BadData(f"{name}, line {reader.line_num}: not the {len(reader.fieldnames or [])} fields of the header")
            yield Record(dict(values), name, reader.line_num)
    except csv.Error as error:
        # The inner reader's count: the outer one's lags behind when a row fails.
        raise BadData(f"{name}, line {reader.reader.line_num}: {error}") from error


def read_parquet(path: Path, name: str, encoding: str) -> Iterator[Record]:
    """Yield the rows of a Parquet file. Parquet fixes its own encoding."""
    # Not at the top: 40 MB that no other format needs.
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for values in batch.to_pylist():
                    number += 1
                    yield Record(values, name, number, unit="row")
    except pa.ArrowException as error:
        raise BadData(f"{name}, after row {number}: not readable as Parquet ({error})") from error


def read_chatterbot(path: Path, name: str, encoding: str) -> Iterator[Record]:
    """Yield the conversations of a ChatterBot corpus file (YAML) as `messages`.

    The corpus marks no speakers. A question followed by statements only is one question with several answers, and
    gives a pair each; anything else is a dialogue in turns, without a last turn nobody answered.
    """
    try:
        document = yaml.safe_load(_decode(path.read_bytes(), name, encoding))
        conversations = document["conversations"]
    except (yaml.YAMLError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise BadData(f"{name}: no YAML with a list `conversations` ({reason})") from error
    if not isinstance(conversations, list):
        raise BadData(f"{name}: `conversations` is no list")
    for number, turns in enumerate(conversations, start=1):
        if not isinstance(turns, list) or len(turns) < 2:
            # The published corpus has a few: a quoting slip turns question and answer into one string.
            yield Record({}, name, number, unit="conversation", problem="conversation of one turn")
            continue
        for messages in _conversations_in([str(turn) for turn in turns]):
            yield Record({"messages": messages}, name, number, unit="conversation")


def _conversations_in(turns: list[str]) -> Iterator[list[dict[str, str]]]:
    question, *answers = turns
    if question.rstrip().endswith("?") and not any(answer.rstrip().endswith("?") for answer in answers):
        yield from (_alternate([question, answer]) for answer in answers)
    else:
        yield _alternate(turns[: len(turns) // 2 * 2])


def _alternate(turns: list[str]) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[index % 2], "content": turn} for index, turn in enumerate(turns)]


def _parse_object(line: str, place: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadData(f"{place}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise BadData(f'{place}: a JSON {type(values).__name__}, but each line must be an object like {{"text": …}}')
    return values


def _decode(raw: bytes, name: str, encoding: str, first_line: int = 1) -> str:
    # A byte order mark is no character of the text; only this codec drops it.
    codec = "utf-8-sig" if encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else encoding
    try:
        return raw.decode(codec)
    except LookupError as error:
        raise BadData(f"{name}: unknown encoding {encoding!r}; give `encoding` a name Python knows, e.g. latin-1") from error
    except UnicodeDecodeError as error:
        line = first_line + raw.count(b"\n", 0, error.start)
        raise BadData(f"{name}, line {line}: not {encoding} ({error.reason}); set the source's `encoding`") from error


READERS: dict[str, Reader] = {
    "text": read_text,
    "jsonl": read_jsonl,
    "csv": read_csv,
    "parquet": read_parquet,
    "chatterbot": read_chatterbot,
}
