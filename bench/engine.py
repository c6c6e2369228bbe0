"""`make bench-engine`: how fast and how safe the engine is, beside the usual tools, on this machine.

python -m bench.engine [--quick] [--only submit,metrics,boot,lists,kills,start] [--no-peers]

Writes bench/results/engine.json and prints it as a table. The peers are installed into environments of their own at the first
run; nothing else needs the network. All of it takes up to 25 minutes, `--quick` up to 5.
"""

import argparse
import sys
import time
from collections.abc import Callable

from bench import boot, kills, lists, metrics, start_latency, submit
from bench.environments import ENGINE_PEERS, python_of
from bench.measurement import Row, compile_modules, print_table, say, write_results


def main() -> None:
    """Measure what was asked for."""
    arguments = _parse()
    quick, peers = arguments.quick, not arguments.no_peers
    rounds = arguments.rounds or (2 if quick else 5)
    parts: dict[str, Callable[[], list[Row]]] = {
        "submit": lambda: submit.measure(rounds, 3.0 if quick else 6.0, peers),
        "metrics": lambda: metrics.measure(rounds, peers),
        "boot": lambda: boot.measure(rounds, 10.0 if quick else 30.0, peers),
        "lists": lambda: lists.measure(rounds, quick),
        "kills": lambda: kills.measure(10.0 if quick else 60.0, peers and not quick),
        "start": lambda: start_latency.measure(rounds, peers),
    }
    compile_modules()
    if peers:
        for name in ENGINE_PEERS:
            python_of(name)
    rows: list[Row] = []
    for name in arguments.only.split(",") if arguments.only else parts:
        started = time.perf_counter()
        say(f"{name} …")
        rows += parts[name]()
        say(f"{name}: {time.perf_counter() - started:.0f} s")
    print_table(rows)
    if quick:
        say("Not written: --quick is for a first look")
    else:
        say(f"written to {write_results('engine', rows)}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-engine ARGS=…", description="Measure the engine beside the usual tools.")
    parser.add_argument("--quick", action="store_true", help="two short rounds, a tenth of the jobs, nothing written")
    parser.add_argument("--only", help="some parts: submit, metrics, boot, lists, kills, start")
    parser.add_argument("--no-peers", action="store_true", help="only Modelyard and the usual stack")
    parser.add_argument("--rounds", type=int, help="rounds of each measurement")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
