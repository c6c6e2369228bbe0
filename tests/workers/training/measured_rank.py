"""One rank of a recipe in a process of its own, which says what it took. Arguments: kind and run folder."""

import importlib
import json
import os
import resource
import sys
from pathlib import Path

from modelyard.workers.libraries import configure_libraries
from modelyard.workers.recipe import open_run
from modelyard.workers.registry import HEAVY, RECIPES


def read_status(name: str) -> int:
    """Bytes the kernel counts for this process: `VmRSS` now, `VmHWM` the most so far."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(kind: str, folder: Path) -> None:
    """Import everything, run the recipe, write what it took beside its events."""
    configure_libraries("cpu")
    recipe = importlib.import_module(RECIPES[kind])
    for name in HEAVY[kind]:
        importlib.import_module(name)
    run = open_run(folder)
    imported, started = read_status("VmRSS"), cpu_seconds()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # count the most from here on
    recipe.main(run)
    took = {"imported": imported, "peak": read_status("VmHWM"), "seconds": cpu_seconds() - started}
    (folder / f"took-{run.rank}.json").write_text(json.dumps(took), encoding="utf-8")
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
