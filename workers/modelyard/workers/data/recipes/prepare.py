"""Prepare a dataset: read, clean, drop duplicates, split without leakage, describe."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelyard.domain.specs.data import PrepareSpec
from modelyard.workers.data.exploration import explore
from modelyard.workers.data.filtering import Tally, keep_good, limit_rows, rows_of
from modelyard.workers.data.report import write_report
from modelyard.workers.data.rows import Row, text_of
from modelyard.workers.data.sources import SourceFile, find_files
from modelyard.workers.data.splitting import split_rows
from modelyard.workers.dataset import DESCRIPTION
from modelyard.workers.recipe import BadData, Run, run_recipe


def main(run: Run[PrepareSpec]) -> None:
    """Make the dataset folder. Its bytes follow from spec and sources alone, so its hash is its version."""
    spec = run.spec
    files = find_files(run)
    rows_per_file: list[dict[str, Any]] = []
    tally = Tally()
    rows = list(keep_good(_read(run, files, rows_per_file, tally), spec.min_characters, tally))
    if not rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in tally.dropped.items()) or "none was read"
        raise BadData(f"no row is left of {tally.rows_in}: {reasons}")
    rows = limit_rows(rows, spec, tally)

    run.leave_if_asked()
    run.progress(0.6, f"splitting {len(rows)} rows")
    train, heldout = split_rows(rows, spec.heldout_fraction, spec.seed)
    counts = {"train": len(train), "heldout": len(heldout)}

    run.leave_if_asked()
    run.progress(0.8, "describing the dataset")
    folder = run.output_folder("dataset")
    _write_rows(folder / "train.jsonl", train)
    _write_rows(folder / "heldout.jsonl", heldout)
    columns = list(train[0])
    _write_json(folder / DESCRIPTION, {"schema": spec.schema_, "rows": counts, "columns": columns})
    figures = {"rows_in": tally.rows_in, "duplicates": tally.duplicates}
    report = {"name": spec.name, "schema": spec.schema_, "rows": counts, "sources": rows_per_file, **figures}
    described = explore(train, heldout)
    write_report(folder, {**report, "dropped": dict(tally.dropped), **described})

    run.output(
        "dataset", "dataset", name=spec.name, schema=spec.schema_, rows=counts, columns=columns,
        bytes_of_text={split: _count_bytes(rows) for split, rows in (("train", train), ("heldout", heldout))},
        characters=described["characters"]["total"], vocabulary_size=described["vocabulary_size"],
    )  # fmt: skip
    run.figures(rows_train=len(train), rows_heldout=len(heldout), dropped=tally.dropped.total(), **figures)
    run.progress(1.0, f"{len(train)} rows to train on, {len(heldout)} held out")


def _read(run: Run[PrepareSpec], files: list[SourceFile], rows_per_file: list[dict[str, Any]], tally: Tally) -> Iterator[Row]:
    """Yield the rows of all files. Raises `BadData` for a file that has none."""
    for index, file in enumerate(files):
        run.progress(0.6 * index / len(files), f"reading {file.name}")
        count = 0
        for row in run.keep_telling(rows_of(file, run.spec.schema_, tally)):
            run.leave_if_asked()
            count += 1
            yield row
        if not count:
            raise BadData(f"{file.name} is empty; remove the source, or fill it")
        rows_per_file.append({"file": file.name, "rows": count})


def _count_bytes(rows: list[Row]) -> int:
    """No tokenizer makes more tokens of a text, but for the marks around it."""
    return sum(len(text_of(row).encode()) for row in rows)


def _write_rows(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_recipe(main)
