"""The task of `bench/peers/queues.py` as a recipe: write `start N`, work for a second, write `done N`."""

import os
import time
from typing import Any

from modelyard.workers.recipe import Run, run_recipe


def main(run: Run[Any]) -> None:
    """Do it; the job's name ends with its number."""
    number = run.spec.name.removeprefix("line-")
    _write(f"start {number}")
    time.sleep(float(os.environ["WORK_SECONDS"]))
    _write(f"done {number}")


def _write(line: str) -> None:
    descriptor = os.open(os.environ["LINES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


if __name__ == "__main__":
    run_recipe(main)
