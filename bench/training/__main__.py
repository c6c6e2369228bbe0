"""`make bench-train`: how fast training is beside the usual scripts, and what the platform adds to it, on this machine.

python -m bench.training [--quick] [--only pretrain-5M,finetune,…] [--no-peers] [--rounds N]

Writes bench/results/train.json and prints it as a table: rows measured before and not this time stay. A round of everything
takes some 20 minutes, `--quick` fewer; the first run makes models, and environments for the peers, below
`MODELYARD_BENCH_CACHE`. Training on a GPU is `bench/gpu_train.py`, which stands alone.
"""

import argparse
import shutil
import subprocess
import sys
import time
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from bench.measurement import Row, print_table, say, write_results
from bench.training import checkpointing, compiling, finetuning, first_step, overhead, pretraining

LIBRARIES = ("torch", "transformers", "deepspeed", "peft", "accelerate")
PEERS = ("trl", "datasets")
"""What only the scripts compared with need."""
COMPARED = ("pretrain", "finetune")
"""How parts with such scripts begin."""


@dataclass(frozen=True)
class Part:
    """What is measured at once."""

    minutes: float
    """About how long a full round takes on two cores with nothing else to do, peers included and installed."""
    measure: Callable[[int, bool, bool], list[Row]]


PARTS = {
    "pretrain-0.1M": Part(1.5, partial(pretraining.measure, "0.1M")),
    "pretrain-5M": Part(2, partial(pretraining.measure, "5M")),
    "pretrain-135M": Part(4, partial(pretraining.measure, "135M")),
    "finetune-5M": Part(2, partial(finetuning.measure, "5M")),
    "finetune-135M": Part(4, partial(finetuning.measure, "135M")),
    "overhead": Part(1.5, overhead.measure),
    "start": Part(1, first_step.measure),
    "checkpoint": Part(1.5, checkpointing.measure),
    "compile": Part(1.5, compiling.measure),
}


def main() -> None:
    """Measure what was asked for."""
    arguments = _parse()
    quick, peers = arguments.quick, not arguments.no_peers
    rounds = arguments.rounds or (1 if quick else 2)
    compares = any(name.startswith(COMPARED) for name in arguments.only)
    missing = list_missing(PEERS) if peers and compares else []
    if missing:
        sys.exit(f"{' and '.join(missing)} not installed: pip install -c constraints.txt -e '.[bench]', or take --no-peers")
    rows: list[Row] = []
    for name in arguments.only:
        started = time.perf_counter()
        say(f"{name} …")
        found = PARTS[name].measure(rounds, quick, peers)
        say(f"{name}: {time.perf_counter() - started:.0f} s")
        rows += found
        if not quick:  # at once, so that an interruption later loses nothing
            write_results("train", found, _notes(), (*LIBRARIES, *(name for name in PEERS if find_spec(name))))
    print_table(rows)
    say("Not written: --quick is for a first look" if quick else "written to bench/results/train.json")


def list_missing(packages: Sequence[str]) -> list[str]:
    """Return those that are not installed."""
    return [name for name in packages if find_spec(name) is None]


def _notes() -> list[str]:
    notes = [
        "CPU figures, one thread; `time` figures of a machine at work elsewhere mean little, CPU-second figures more",
        "Modelyard measures held-out sequences before its first step, which the others do not",
    ]
    if not shutil.which("nvidia-smi") or subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode:
        notes.append("no GPU was available: bench/gpu_train.py was not run")
    return notes


def find_parts(text: str) -> list[str]:
    """Return the parts whose names begin with what is asked for."""
    for asked in text.split(","):
        if not any(name.startswith(asked) for name in PARTS):
            raise argparse.ArgumentTypeError(f"there is no part {asked}; there are {', '.join(PARTS)}")
    return [name for name in PARTS if name.startswith(tuple(text.split(",")))]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench-train ARGS=…", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.epilog = "Minutes a round of each part, about: " + ", ".join(
        f"{name} {part.minutes:g}" for name, part in PARTS.items()
    )
    parser.add_argument("--quick", action="store_true", help="one short round, the small sizes, nothing written")
    parser.add_argument(
        "--only", type=find_parts, default=list(PARTS), help="parts, or what their names begin with, comma between"
    )
    parser.add_argument("--no-peers", action="store_true", help="only Modelyard")
    parser.add_argument("--rounds", type=int, help="rounds of each measurement, 2 if not said; 1 with --quick")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
