"""`make chaos ARGS="--seconds 1800 --seed 7 --database postgresql --json"`."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from modelyard.cli.console import print_json, print_table, say
from tests.chaos.loop import Plan, run_loop
from tests.chaos.verdict import Verdict


def main() -> int:
    """Run the loop once. Exit code 0: nothing was lost, nothing was done twice."""
    parser = argparse.ArgumentParser(
        prog="chaos", description="Kill, freeze and drain a platform at work; then count what was lost."
    )
    parser.add_argument("--seconds", type=float, default=150.0, help="how long things go wrong")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--json", action="store_true", help="print one JSON document on standard output")
    parser.add_argument("--keep", type=Path, help="folder to keep logs and run folders in")
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        verdict = run_loop(Plan(given.seconds, given.seed, given.database), folder, say)
    finally:
        if given.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    print_json(verdict.document()) if given.json else show(verdict)
    return 0 if verdict.is_ok else 1


def show(verdict: Verdict) -> None:
    """Print the figures as tables."""
    print_table(("injected", "times"), sorted(verdict.injected.items()))
    figures = {name: value for name, value in verdict.document().items() if not isinstance(value, dict | list)}
    outcomes = {f"attempts that ended {name}": number for name, number in verdict.outcomes.items()}
    print_table(("figure", "value"), {**figures, **outcomes}.items())
    for problem in verdict.problems:
        say(f"WRONG: {problem}", "red")


if __name__ == "__main__":
    sys.exit(main())
