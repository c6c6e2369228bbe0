"""What the platform adds to a recipe: the same pre-training as a job and by hand, in turn, and the bookkeeping of a step.

Steps are timed by the time stamps of the recipe's own events. The CPU time of the platform is that of all its processes (broker,
API, worker, runner) but the busiest, which trains, between two moments of the same job, less what they take at rest.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import psutil

from bench.measurement import Figures, Row, compare, say
from bench.start_latency import PREPARE, PRETRAIN, ROWS, Bench, running_bench
from bench.training.material import new_model, texts
from bench.training.subjects import run_module, run_program

STEPS, QUICK_STEPS = 500, 80
SKIPPED = 10
REST_SECONDS = 10.0
MOST_SECONDS = 300.0
SHAPE = {"hidden_size": 128, "intermediate_size": 344, "layers": 4, "heads": 4, "key_value_heads": 4}
SPEC = {**PRETRAIN, "architecture": SHAPE, "sequence_length": 64, "micro_batch_size": 4, "vocabulary_size": 400}
HAND = "the recipe by hand"


def measure(rounds: int, is_quick: bool, peers: bool = True) -> list[Row]:
    """Tokens/s of the job against the recipe by hand; CPU time a step of the platform's processes, and of bookkeeping."""
    steps = QUICK_STEPS if is_quick else STEPS
    figures = {"Modelyard": Figures(), HAND: Figures()}
    with running_bench("always", 2) as bench:
        rows = bench.folder / "lines.jsonl"
        rows.write_text("".join(json.dumps({"text": f"{row['text']} {copy}"}) + "\n" for row in ROWS for copy in range(100)))
        bench.client.upload_dataset(rows, "lines")
        bench.run({**PREPARE, "sources": [{"dataset": "lines"}]})
        rest = _cpu_at_rest()
        figures["Modelyard"].add({"rest": 1000 * rest})
        for number in range(rounds):
            job, found = _run_job(bench, steps, rest)
            figures["Modelyard"].add(found)
            if peers:
                figures[HAND].add(_run_by_hand(job, bench.folder / f"hand-{number}"))
            say(f"  round {number + 1}/{rounds}: {found}, {HAND} {figures[HAND].values}")
    for _ in range(rounds):
        figures["Modelyard"].add({"bookkeeping": _bookkeeping(steps)})
    other = HAND if peers else None
    return [
        compare(
            "job through the platform: tokens per second", "tokens_per_second", "tokens/s", figures, "Modelyard", other, "≥ 0.995"
        ),
        compare(
            "what a job adds to the platform's processes, CPU per step", "host_cpu", "ms", figures, "Modelyard", target="≤ 0.3"
        ),
        compare("the platform's processes at rest, CPU per second", "rest", "ms", figures, "Modelyard"),
        compare("bookkeeping in the recipe, profiled, per step", "bookkeeping", "ms", figures, "Modelyard", target="≤ 0.3"),
    ]


def _cpu_at_rest() -> float:
    """CPU seconds per second of the platform's processes before there is a job."""
    time.sleep(REST_SECONDS / 2)  # what it was asked until now is done
    before, began = _cpu_seconds(), time.monotonic()
    time.sleep(REST_SECONDS)
    after, seconds = _cpu_seconds(), time.monotonic() - began
    return sum(after[pid] - before.get(pid, 0.0) for pid in after) / seconds


def _run_job(bench: Bench, steps: int, rest: float) -> tuple[Path, dict[str, float]]:
    """Run one job; return its run folder and figures. `rest`: CPU seconds per second to leave out."""
    job = bench.client.submit_job({"spec": {**SPEC, "steps": steps, "evaluate_every": steps, "save_every": steps}})
    folder = bench.folder / "runs" / job["id"] / "1"
    first_step, before = _wait_for_step(folder, SKIPPED)
    began = time.monotonic()
    last_step, after = _wait_for_step(folder, steps - SKIPPED)
    seconds = time.monotonic() - began
    spent = sorted(after[pid] - before.get(pid, 0.0) for pid in after)
    while (state := bench.client.get(f"/v1/jobs/{job['id']}")["state"]) != "succeeded":
        if state == "failed":
            raise RuntimeError(f"job {job['id']} failed")
        time.sleep(0.1)
    milliseconds = 1000 * (sum(spent[:-1]) - rest * seconds) / (last_step - first_step)
    return folder, {"tokens_per_second": _tokens_per_second(folder), "host_cpu": milliseconds}


def _wait_for_step(folder: Path, step: int) -> tuple[int, dict[int, float]]:
    """Return the step the job is at, from this one on, and the CPU seconds of each process of the platform by then.

    Reads the run's own file: to ask the API would be part of what is measured.
    """
    deadline = time.monotonic() + MOST_SECONDS
    while time.monotonic() < deadline:
        points = _points(folder)
        if points and points[-1]["step"] >= step:
            return points[-1]["step"], _cpu_seconds()
        time.sleep(0.05)
    raise RuntimeError(f"the run in {folder} did not reach step {step} within {MOST_SECONDS:g} s")


def _cpu_seconds() -> dict[int, float]:
    """CPU seconds of every process this one started, directly or not."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        found[process.pid] = times.user + times.system
    return found


def _run_by_hand(job: Path, folder: Path) -> dict[str, float]:
    """Run what a job ran, as a program of its own."""
    folder.mkdir()
    shutil.copy(job / "run.json", folder)
    run_module("modelyard.workers.training.recipes.pretrain", ["--run-dir", str(folder)], folder / "log")
    return {"tokens_per_second": _tokens_per_second(folder)}


def _tokens_per_second(folder: Path) -> float:
    """From the time stamps of the steps, without the first ones."""
    points = [point for point in _points(folder) if "loss" in point["values"]][SKIPPED:]
    tokens = SPEC["sequence_length"] * SPEC["micro_batch_size"] * (points[-1]["step"] - points[0]["step"])
    seconds: float = points[-1]["at"] - points[0]["at"]
    return tokens / seconds


def _points(folder: Path) -> list[dict[str, Any]]:
    file = folder / "events.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    events = [json.loads(line) for line in lines if line.endswith("\n")]
    return [event for event in events if event["type"] == "metric"]


def _bookkeeping(steps: int) -> float:
    """Milliseconds a step that a recipe spends on metrics, progress and the question whether to stop."""
    spec = {
        "kind": "pretrain", "name": "bench", "dataset": "plays", "model": "new", "sequence_length": 64, "micro_batch_size": 1,
        "steps": steps, "evaluate_every": steps, "save_every": steps,
    }  # fmt: skip
    inputs = {"model": {"path": str(new_model("5M"))}, "dataset": {"path": str(texts())}}
    watched = run_program("recipe_run", {"recipe": "pretrain", "spec": spec, "inputs": inputs, "profiled": True})
    seconds: float = watched.more["bookkeeping_seconds"]
    return 1000 * seconds / steps
