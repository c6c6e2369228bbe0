"""Whether two runs came out the same: their curves, the files they made, and what they ran with. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modelyard.domain.jobs.measurements import is_of_machine

Points = Mapping[tuple[int, str], float | None]
"""(step, metric) -> value, None where it was not finite."""
Digests = Mapping[tuple[str, str], str]
"""(output, file) -> SHA-256."""
DESCRIPTIONS = frozenset({"model_card.md", "run_manifest.json", "report.html", "README.md"})
"""Files that tell how an output came about, its times and ids among it."""


@dataclass(frozen=True)
class PointDifference:
    """One metric at one step."""

    step: int
    metric: str
    original: float | None
    reproduction: float | None


@dataclass(frozen=True)
class FileDifference:
    """One file of one output; a digest is None where there is no such file."""

    output: str
    file: str
    original: str | None
    reproduction: str | None


@dataclass(frozen=True)
class FieldDifference:
    """One place in the manifests, dotted; a value is None where there is no such place."""

    field: str
    original: Any
    reproduction: Any


@dataclass(frozen=True)
class Comparison:
    """What is the same in two runs, and what is not."""

    points: int
    """Values both reported of the same metric at the same step."""
    files: int
    """Files at least one of them made, descriptions left out."""
    different_points: list[PointDifference]
    """By step: the first is where the runs part."""
    different_files: list[FileDifference]
    different_fields: list[FieldDifference]
    """What they ran with; a reason, not a verdict."""

    @property
    def is_identical(self) -> bool:
        """Whether all that could be compared is the same, bit for bit, and there was something."""
        return bool(self.points or self.files) and not self.different_points and not self.different_files


@dataclass(frozen=True)
class Results:
    """What is known of a run that succeeded."""

    points: Points
    files: Digests
    manifest: Mapping[str, Any] | None


def compare(original: Results, reproduction: Results) -> Comparison:
    """Hold a run against its reproduction."""
    shared = sorted(key for key in original.points.keys() & reproduction.points.keys() if not is_of_machine(key[1]))
    files = sorted(key for key in original.files.keys() | reproduction.files.keys() if key[1] not in DESCRIPTIONS)
    return Comparison(
        points=len(shared),
        files=len(files),
        different_points=[
            PointDifference(*key, original.points[key], reproduction.points[key])
            for key in shared
            if original.points[key] != reproduction.points[key]
        ],
        different_files=[
            FileDifference(*key, original.files.get(key), reproduction.files.get(key))
            for key in files
            if original.files.get(key) != reproduction.files.get(key)
        ],
        different_fields=list(_compare_manifests(original.manifest or {}, reproduction.manifest or {})),
    )


def _compare_manifests(original: Mapping[str, Any], reproduction: Mapping[str, Any]) -> Iterator[FieldDifference]:
    first, second = dict(_flatten(original)), dict(_flatten(reproduction))
    for name in sorted(first.keys() | second.keys()):
        if first.get(name) != second.get(name):
            yield FieldDifference(name, first.get(name), second.get(name))


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flatten(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner
