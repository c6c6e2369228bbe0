"""`make bench-train`: how fast training is beside the usual scripts, and what the platform adds to it, on this machine.

python -m bench.training [--quick] [--only pretrain,finetune,…] [--no-peers]

Writes bench/results/train.json and prints it as a table. All of it takes up to 25 minutes, `--quick` a few. Training on a GPU is
`bench/gpu_train.py`, which stands alone.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable

from bench.measurement import Row, print_table, say, write_results
from bench.training import checkpointing, compiling, finetuning, first_step, overhead, pretraining

LIBRARIES = ("torch", "transformers", "deepspeed", "peft", "trl", "accelerate")


def main() -> None:
    """Measure what was asked for."""
    arguments = _parse()
    quick, peers = arguments.quick, not arguments.no_peers
    rounds = arguments.rounds or (1 if quick else 2)
    parts: dict[str, Callable[[], list[Row]]] = {
        "pretrain": lambda: pretraining.measure(rounds, quick, peers),
        "finetune": lambda: finetuning.measure(rounds, quick, peers),
        "overhead": lambda: overhead.measure(rounds, quick, peers),
        "start": lambda: first_step.measure(rounds, quick, peers),
        "checkpoint": lambda: checkpointing.measure(rounds, quick, peers),
        "compile": lambda: compiling.measure(1, quick, peers),
    }
    rows: list[Row] = []
    for name in arguments.only.split(",") if arguments.only else parts:
        started = time.perf_counter()
        say(f"{name} …")
        found = parts[name]()
        say(f"{name}: {time.perf_counter() - started:.0f} s")
        rows += found
        if not quick:  # at once, so that an interruption later loses nothing
            write_results("train", found, _notes(), LIBRARIES)
    print_table(rows)
    say("Not written: --quick is for a first look" if quick else "written to bench/results/train.json")


def _notes() -> list[str]:
    notes = ["CPU figures, one thread; `time` figures of a machine at work elsewhere mean little, CPU-second figures more"]
    if not shutil.which("nvidia-smi") or subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode:
        notes.append("no GPU was available: bench/gpu_train.py was not run")
    return notes


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-train ARGS=…", description="Measure training beside the usual scripts.")
    parser.add_argument("--quick", action="store_true", help="one short round, the small sizes, nothing written")
    parser.add_argument("--only", help="some parts: pretrain, finetune, overhead, start, checkpoint, compile")
    parser.add_argument("--no-peers", action="store_true", help="only Modelyard")
    parser.add_argument("--rounds", type=int, help="rounds of each measurement")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
