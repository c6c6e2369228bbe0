"""What `torch.compile` costs the second process that trains a shape, where runs share a compile cache."""

import shutil
import tempfile
from pathlib import Path

from bench.measurement import Figures, Row, compare, say
from bench.training.material import new_model, texts
from bench.training.subjects import run_program

STEPS = 3


def measure(rounds: int, is_quick: bool, peers: bool = True) -> list[Row]:
    """Seconds from the start of a process to its first optimizer step, less those of a process that compiles nothing."""
    del is_quick, peers
    if not shutil.which("g++"):
        say("  no g++ on this machine: torch.compile has no compiler for CPUs, nothing was measured")
        return []
    figures = {"second": Figures(), "first": Figures()}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as cache:
            plain = _seconds("off", Path(cache))
            first, second = (_seconds("on", Path(cache)) - plain for _ in range(2))
        say(f"  first {first:.1f} s, second {second:.1f} s")
        figures["first"].add({"compile": first})
        figures["second"].add({"compile": max(second, 0.01)})
    label = "compile of a shape compiled before, in a new process"
    return [compare(label, "compile", "s", figures, "second", "first", "≥ 4", more_is_better=False)]


def _seconds(compiles: str, cache: Path) -> float:
    spec = {
        "kind": "pretrain", "name": "bench", "dataset": "plays", "model": "new", "steps": STEPS, "save_every": STEPS,
        "evaluate_every": STEPS, "sequence_length": 128, "micro_batch_size": 2, "compile": compiles,
    }  # fmt: skip
    inputs = {"model": {"path": str(new_model("5M"))}, "dataset": {"path": str(texts())}}
    given = {"recipe": "pretrain", "spec": spec, "inputs": inputs, "environment": {"MODELYARD_CACHE_DIR": str(cache)}}
    return run_program("recipe_run", given).first_step()[0]
