"""From the submit of a job to the first line of its recipe: forked from warm parents, just after the worker's start, as programs.

python -m bench.start_latency [--rounds 5] [--jobs 20] [--no-peers]

One worker at a time, over HTTP, ticket and claim as always; jobs one right after another, and of those with torch some a
second later, when the worker has forked a spare again. The first line is the `phase` event a
recipe's start writes, by its own time stamp; a trained step is the first `metric` event. Cold is the first job of a worker,
submitted at the moment the worker says that it is ready. Beside it, RQ, Dramatiq, Celery and
Prefect run a function that writes the time: RQ and Prefect start a process for it, the other two none.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measurement import Row, compare, interleave, print_table
from bench.peers import starts
from bench.servers import make_database, running, running_api, running_broker, server_environment
from modelyard.cli.client import Client

ROWS = [{"text": f"Line {number}: the quick brown fox jumps over the lazy dog, and then does it again."} for number in range(20)]
PREPARE = {"kind": "prepare", "name": "rows", "schema": "text", "sources": [{"dataset": "lines"}]}
PRETRAIN = {
    "kind": "pretrain",
    "name": "tiny",
    "dataset": "rows",
    "vocabulary_size": 300,
    "sequence_length": 16,
    "micro_batch_size": 1,
    "steps": 1,
    "architecture": {"hidden_size": 16, "intermediate_size": 32, "layers": 1, "heads": 1, "key_value_heads": 1},
}
READY_SECONDS = 120.0
REST_SECONDS = 1.0


@dataclass
class Bench:
    """A platform with one worker."""

    client: Client
    folder: Path

    def run(self, spec: dict[str, Any], after_seconds: float = 0.0) -> dict[str, float]:
        """Run one job to its end; return the milliseconds from its submit to the first event of each type."""
        time.sleep(after_seconds)
        started = time.time()
        job = self.client.submit_job({"spec": spec})
        while job["state"] not in {"succeeded", "failed"}:
            time.sleep(0.05)
            job = self.client.get(f"/v1/jobs/{job['id']}")
        if job["state"] == "failed":
            raise RuntimeError(f"job {job['id']} failed: {job['message']}")
        first: dict[str, float] = {}
        for line in (self.folder / "runs" / job["id"] / "1" / "events.jsonl").read_text().splitlines():
            event = json.loads(line)
            first.setdefault(event["type"], 1000 * (event["at"] - started))
        return first


@contextmanager
def running_bench(mode: str, wanted_parents: int) -> Iterator[Bench]:
    """A broker, an API with a data set, and one worker that is ready, as are so many of its warm parents."""
    with tempfile.TemporaryDirectory(prefix="modelyard-start-") as made, running_broker() as broker:
        folder = Path(made)
        database, key, _ = make_database(folder)
        database.dispose()
        environment = {**server_environment(folder, broker), "MODELYARD_WARM_PARENTS": mode, "MODELYARD_LOG_LEVEL": "INFO"}
        log = folder / "worker"
        log.mkdir()
        command = [
            sys.executable,
            "-m",
            "modelyard.cli",
            "worker",
            "--name",
            "bench",
            "--stages",
            "prepare,pretrain",
            "--slots",
            "2",
        ]
        with running_api(folder, broker, key) as api:
            bench = Bench(Client(api.url, key), folder)
            _upload(bench)
            with running(command, environment, log):
                _wait_for(log / "server.log", "worker ready", 1)
                _wait_for(log / "server.log", "warm parent ready", wanted_parents)
                yield bench


def _upload(bench: Bench) -> None:
    rows = bench.folder / "lines.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    bench.client.upload_dataset(rows, "lines")


def _wait_for(log: Path, text: str, times: int) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while log.read_text().count(text) < times:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the worker did not say {text!r} {times} times within {READY_SECONDS:g} s")
        time.sleep(0.01)


def measure(rounds: int, peers: bool = True, jobs: int = 20) -> list[Row]:
    """Medians over rounds, in turn forked, started as programs, and by other task queues."""
    others = starts.subjects(jobs) if peers else {}
    own: dict[str, Callable[[], Mapping[str, float]]] = {
        "forked": lambda: _round("always", 2, jobs),
        "programs": lambda: _round("never", 0, max(jobs // 5, 2)),
        "cold": _first_job,
    }
    figures = interleave({**own, **others}, rounds)
    rows = (
        ("submit to first line, recipe without torch, p50", "light", "≤ 50"),
        ("submit to first line, recipe without torch, p95", "light p95", ""),
        ("submit to first line, recipe with torch, to a worker at rest, p50", "rested", "≤ 50"),
        ("submit to first line, recipe with torch, right after another, p50", "heavy", ""),
        ("submit to first trained step, p50", "step", ""),
    )
    cold = "submit to first line, recipe without torch, first job of a worker"
    found = [compare(cold, "light", "ms", figures, "cold", "programs", "≤ 250", more_is_better=False)]
    found += [
        compare(label, metric, "ms", figures, "forked", "programs", target, more_is_better=False)
        for label, metric, target in rows
    ]
    beside = "submit to first line, beside a task that is a function"
    return found + [compare(beside, "light", "ms", figures, "forked", name, more_is_better=False) for name in others]


def _first_job() -> dict[str, float]:
    with running_bench("after_use", 0) as bench:
        return {"light": bench.run(PREPARE)["phase"]}


def _round(mode: str, parents: int, jobs: int) -> dict[str, float]:
    with running_bench(mode, parents) as bench:
        bench.run(PREPARE)  # makes the data set the others train on
        light = [bench.run(PREPARE)["phase"] for _ in range(jobs)]
        heavy = [bench.run(PRETRAIN) for _ in range(max(jobs // 4, 2))]
        rested = [bench.run(PRETRAIN, after_seconds=REST_SECONDS)["phase"] for _ in heavy]
    return {
        "light": statistics.median(light),
        "light p95": statistics.quantiles(light, n=20)[-1],
        "heavy": statistics.median(each["phase"] for each in heavy),
        "rested": statistics.median(rested),
        "step": statistics.median(each["metric"] for each in heavy),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--no-peers", action="store_true")
    given = parser.parse_args()
    print_table(measure(given.rounds, not given.no_peers, given.jobs))


if __name__ == "__main__":
    main()
