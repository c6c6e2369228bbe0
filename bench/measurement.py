"""Rounds, medians and spread; results as a file and as a table."""

import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("celery", "fastapi", "pydantic", "redis", "sqlalchemy", "sqlmodel", "uvicorn")


@dataclass(frozen=True)
class Row:
    """One comparison. `ratio` > 1 means Modelyard is better."""

    metric: str
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str = ""
    ratio: float | None = None
    target: str = ""
    repeats: int = 1
    spread: str = ""
    """Smallest to largest: ours, then the peer's."""


@dataclass
class Figures:
    """What the rounds of one subject gave, by metric."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, found: Mapping[str, float]) -> None:
        """Take one round."""
        for metric, value in found.items():
            self.values.setdefault(metric, []).append(float(value))

    def median(self, metric: str) -> float:
        """The middle of all rounds."""
        return statistics.median(self.values[metric])

    def spread(self, metric: str) -> str:
        """Smallest to largest."""
        return f"{_short(min(self.values[metric]))}-{_short(max(self.values[metric]))}"


def interleave(subjects: Mapping[str, Callable[[], Mapping[str, float]]], rounds: int) -> dict[str, Figures]:
    """Measure each subject once a round, in turn, so that whatever else the machine does meets all of them alike."""
    figures = {name: Figures() for name in subjects}
    for number in range(rounds):
        for name, measure in subjects.items():
            found = measure()
            figures[name].add(found)
            say(f"  round {number + 1}/{rounds} {name}: " + ", ".join(f"{key} {_short(value)}" for key, value in found.items()))
    return figures


def compare(
    label: str,
    metric: str,
    unit: str,
    figures: Mapping[str, Figures],
    ours: str,
    peer: str | None = None,
    target: str = "",
    more_is_better: bool = True,
) -> Row:
    """One row out of the figures of two subjects."""
    mine = figures[ours]
    spread = mine.spread(metric)
    repeats = len(mine.values[metric])
    if peer is None:
        return Row(label, unit, mine.median(metric), target=target, repeats=repeats, spread=spread)
    theirs = figures[peer]
    first, second = (mine, theirs) if more_is_better else (theirs, mine)
    ratio = first.median(metric) / second.median(metric) if second.median(metric) else None
    spread = f"{spread} / {theirs.spread(metric)}"
    return Row(label, unit, mine.median(metric), theirs.median(metric), peer, ratio, target, repeats, spread)


def write_results(name: str, rows: Sequence[Row], notes: Sequence[str] = (), libraries: Sequence[str] = LIBRARIES) -> Path:
    """Write `results/<name>.json`; return the file. Rows measured before and not this time stay as they were."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    measured = [asdict(row) for row in rows]
    kept: list[dict[str, object]] = []
    if file.exists():
        again = {(row["metric"], row["peer_name"]) for row in measured}
        kept = [row for row in json.loads(file.read_text())["rows"] if (row["metric"], row["peer_name"]) not in again]
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "versions": {"python": platform.python_version(), **{each: version(each) for each in libraries}},
        "notes": list(notes),
        "rows": [*kept, *measured],
    }
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return file


def describe_machine() -> str:
    """Processor, cores, memory and system."""
    import psutil

    model = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    memory = psutil.virtual_memory().total / 2**30
    load = psutil.getloadavg()[0]
    return (
        f"{psutil.cpu_count()} × {model or platform.processor()}, {memory:.0f} GiB, {platform.system()}; load {load:.1f} before"
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def print_table(rows: Sequence[Row]) -> None:
    """The same for a reader."""
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", "unit", "Modelyard", "peer", "", "ratio", "target", "rounds", "smallest-largest")
    for row in rows:
        peer = "" if row.peer is None else _short(row.peer)
        ratio = "" if row.ratio is None else f"{row.ratio:.3g}×"
        table.add_row(
            row.metric, row.unit, _short(row.ours), peer, row.peer_name, ratio, row.target, str(row.repeats), row.spread
        )
    Console(width=200).print(table)


def compile_modules() -> None:
    """Compile this checkout as installing it would: the peers are installed, and their modules are compiled."""
    import compileall

    for room in ("kit", "domain", "api", "workers", "scheduler", "cli"):
        compileall.compile_dir(RESULTS.parents[1] / room, quiet=1)


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def run_json(command: Sequence[str], **options: object) -> dict[str, float]:
    """Run a program that prints one JSON object as its last line."""
    done = subprocess.run(command, check=True, capture_output=True, **options)  # type: ignore[call-overload]
    answer: dict[str, float] = json.loads(done.stdout.decode().strip().splitlines()[-1])
    return answer
