"""Run one of Modelyard's recipes in this process, with a stopwatch: `python -m bench.training.recipe_run GIVEN.json`."""

import cProfile
import importlib
import json
import os
import pstats
import sys
from pathlib import Path
from typing import Any

from bench.training.stopwatch import Stopwatch
from modelyard.workers.recipe import run_recipe

BOOKKEEPING = ("metrics", "progress", "stop_requested", "pauses_at", "is_silent", "_report")
"""What a recipe does at a step for the platform's sake."""


def main() -> None:
    """Train, then say what was seen."""
    given = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(given["folder"] if "folder" in given else Path(given["scratch"], "run"))
    folder.mkdir(parents=True, exist_ok=True)
    document = {key: given[key] for key in ("spec", "inputs", "resume_from") if key in given}
    (folder / "run.json").write_text(json.dumps(document))
    stopwatch = Stopwatch(Path(given["stopwatch"]))
    recipe = importlib.import_module(f"modelyard.workers.training.recipes.{given['recipe']}")
    profile = cProfile.Profile() if given.get("profiled") else None
    if profile:
        profile.runcall(run_recipe, recipe.main, folder)
    else:
        run_recipe(recipe.main, folder)
    more: dict[str, Any] = {"metrics": _metrics(folder), "model": str(folder / "outputs" / "model")}
    if profile:
        more["bookkeeping_seconds"] = _bookkeeping_seconds(profile)
    if "keep_model" in given:
        os.rename(folder / "outputs" / "model", given["keep_model"])
    stopwatch.write(**more)


def _metrics(folder: Path) -> list[dict[str, Any]]:
    """The metric and phase events in their order."""
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [event for event in events if event["type"] in {"metric", "phase"}]


def _bookkeeping_seconds(profile: cProfile.Profile) -> float:
    """Time inside the outermost calls that serve the platform; profiling makes it longer, never shorter."""
    statistics: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    found = 0.0
    for (file, _, name), (_, _, _, _, callers) in statistics.items():
        if name not in BOOKKEEPING or "modelyard" not in file:
            continue
        found += sum(cumulative for (_, _, caller), (*_, cumulative) in callers.items() if caller not in BOOKKEEPING)
    return found


if __name__ == "__main__":
    main()
