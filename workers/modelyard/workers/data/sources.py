"""Turn the sources of a spec into raw records."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelyard.domain.specs.data import PrepareSpec, Source
from modelyard.workers.data.packages import find_package_files
from modelyard.workers.data.readers import READERS
from modelyard.workers.data.records import Record
from modelyard.workers.dataset import read_description
from modelyard.workers.recipe import BadData, Run

FORMATS = {"txt": "text", "jsonl": "jsonl", "csv": "csv", "parquet": "parquet"}
"""Extension of an uploaded file -> how it is read."""


@dataclass(frozen=True)
class SourceFile:
    """One file to read. `name` is free of machine paths, so that reports are the same everywhere."""

    name: str
    path: Path
    format: str
    encoding: str
    strip: str | None = None

    def records(self) -> Iterator[Record]:
        """Yield the raw rows. Raises `BadData` naming file and line."""
        return READERS[self.format](self.path, self.name, self.encoding)


def find_files(run: Run[PrepareSpec]) -> list[SourceFile]:
    """Return every file of every source, in the order of the spec. Raises `BadData`."""
    files: list[SourceFile] = []
    for index, source in enumerate(run.spec.sources):
        files += _package_files(source) if source.files else _dataset_files(run, source, index)
    return files


def _package_files(source: Source) -> list[SourceFile]:
    assert source.files is not None
    assert source.format is not None
    found = find_package_files(source.files.package, source.files.files)
    return [SourceFile(name, path, source.format, source.encoding, source.strip) for name, path in found]


def _dataset_files(run: Run[PrepareSpec], source: Source, index: int) -> list[SourceFile]:
    folder = run.input(f"sources.{index}.dataset").path
    description = read_description(folder)
    if "schema" in description:
        names, kind = ["train.jsonl", "heldout.jsonl"], "jsonl"
    else:
        extension = str(description.get("format"))
        if extension not in FORMATS:
            raise BadData(f"sources.{index}: format {extension!r} of the upload is none of {', '.join(FORMATS)}")
        names, kind = [f"data.{extension}"], FORMATS[extension]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise BadData(f"sources.{index}: the dataset folder has no {', '.join(missing)}")
    return [SourceFile(f"sources.{index}/{name}", folder / name, kind, source.encoding, source.strip) for name in names]
