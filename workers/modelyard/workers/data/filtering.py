"""Turn records into clean rows, and count every one that is left out with the reason."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from modelyard.domain.specs.data import PrepareSpec
from modelyard.workers.data.cleaning import clean
from modelyard.workers.data.gutenberg import strip_gutenberg
from modelyard.workers.data.judgements import to_preference, to_problem, to_rating
from modelyard.workers.data.keys import digest, strict_key
from modelyard.workers.data.passages import split_passages
from modelyard.workers.data.records import Record
from modelyard.workers.data.rows import ANSWERS, Row, identity_of, text_of, to_messages, to_text
from modelyard.workers.data.sources import SourceFile

SHAPES: dict[str, Callable[[Record], Row]] = {
    "chat": lambda record: {"messages": to_messages(record)},
    "preference": to_preference,
    "rated": to_rating,
    "problems": to_problem,
}
"""Schema -> what makes one row of a record. Texts are cut into passages instead."""


@dataclass
class Tally:
    """How many rows came in and why some did not stay."""

    rows_in: int = 0
    duplicates: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason -> rows."""


def rows_of(file: SourceFile, schema: str, tally: Tally) -> Iterator[Row]:
    """Yield the cleaned rows of a file in the shape of the schema; documents become passages. Raises `BadData`."""
    for record in file.records():
        if record.problem:
            tally.rows_in += 1
            tally.dropped[record.problem] += 1
        elif schema in SHAPES:
            yield SHAPES[schema](record)
        else:
            text = to_text(record)
            document = clean(strip_gutenberg(text) if file.strip == "gutenberg" else text)
            # An empty document stays one row, so that it is counted as dropped.
            yield from ({"text": passage} for passage in split_passages(document)) if document else ({"text": ""},)


def keep_good(rows: Iterable[Row], min_characters: int, tally: Tally) -> Iterator[Row]:
    """Yield rows with something in every turn, long enough, and not seen before; count the others."""
    seen: set[str] = set()
    for row in rows:
        tally.rows_in += 1
        key = digest(strict_key(identity_of(row)))
        if _is_empty(row):
            tally.dropped["empty"] += 1
        elif "chosen" in row and row["chosen"] == row["rejected"]:
            tally.dropped["chosen and rejected are the same"] += 1
        elif len(text_of(row)) < min_characters:
            tally.dropped[f"shorter than {min_characters} characters"] += 1
        elif key in seen:
            tally.duplicates += 1
        else:
            seen.add(key)
            yield row


def limit_rows(rows: list[Row], spec: PrepareSpec, tally: Tally) -> list[Row]:
    """Return at most `max_rows` rows, chosen by a hash of seed and content, in the order given."""
    if spec.max_rows is None or len(rows) <= spec.max_rows:
        return rows
    ranked = sorted(range(len(rows)), key=lambda index: digest("sample", spec.seed, identity_of(rows[index])))
    chosen = set(ranked[: spec.max_rows])
    tally.dropped[f"over the limit of {spec.max_rows} rows"] += len(rows) - spec.max_rows
    return [row for index, row in enumerate(rows) if index in chosen]


def _is_empty(row: Row) -> bool:
    if "text" in row:
        return not row["text"].strip()
    said = [message["content"] for message in row["messages"]] + [row[name] for name in ANSWERS if name in row]
    return not all(said)
