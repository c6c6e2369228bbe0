"""From the submit of a tiny pre-training to the end of its first optimizer step: forked from a warm parent, and as programs."""

import json
import statistics

from bench.measurement import Row, compare, interleave
from bench.start_latency import PREPARE, PRETRAIN, ROWS, running_bench

JOBS, QUICK_JOBS = 8, 2


def measure(rounds: int, is_quick: bool, peers: bool = True) -> list[Row]:
    """Median over jobs one after another, over HTTP, ticket and claim as always."""
    jobs = QUICK_JOBS if is_quick else JOBS
    subjects = {"warm parent": lambda: _round("always", 2, jobs)}
    if peers:
        subjects["programs"] = lambda: _round("never", 0, 2)
    figures = interleave(subjects, rounds)
    label = "submit to the end of the first optimizer step, p50"
    other = "programs" if peers else None
    return [compare(label, "step", "s", figures, "warm parent", other, "≤ 1.0", more_is_better=False)]


def _round(mode: str, parents: int, jobs: int) -> dict[str, float]:
    with running_bench(mode, parents) as bench:
        rows = bench.folder / "lines.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        bench.client.upload_dataset(rows, "lines")
        bench.run({**PREPARE, "sources": [{"dataset": "lines"}]})
        return {"step": statistics.median(bench.run(PRETRAIN)["metric"] / 1000 for _ in range(jobs))}
