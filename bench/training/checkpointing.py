"""How long a checkpoint holds training up, beside `save_checkpoint` in line; whether a resumed run repeats the unbroken one."""

import statistics
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.measurement import Row, compare, interleave
from bench.training.material import new_model, texts
from bench.training.subjects import Watched, run_program

SHAPE = {"sequence_length": 128, "batch": 4}
STEPS, SAVE_EVERY = 41, 10
RESTORED_STEPS = 12
INLINE = "save_checkpoint in line"


def measure(rounds: int, is_quick: bool, peers: bool = True) -> list[Row]:
    """The median stall in seconds and in steps, and how many losses of a resumed run differ from the unbroken run's."""
    steps, every = (13, 6) if is_quick else (STEPS, SAVE_EVERY)
    subjects = {"Modelyard": lambda: _stall(_train(steps, every), every)}
    if peers:
        subjects[INLINE] = lambda: _stall(_train_inline(steps, every), every)
    figures = interleave(subjects, rounds)
    other = INLINE if peers else None
    return [
        compare("checkpoint stall, 5M", "seconds", "s", figures, "Modelyard", other, "≥ 10", more_is_better=False),
        compare("checkpoint stall, 5M, in steps", "steps", "steps", figures, "Modelyard", other, "≤ 1", more_is_better=False),
        Row("losses that differ after a resume at half, of 6", "losses", _losses_that_differ(), target="0"),
    ]


def _stall(watched: Watched, every: int) -> dict[str, float]:
    """How much longer than others the steps after which a checkpoint is made hold up the next one."""
    walls = [wall for wall, _ in watched.stamps]
    intervals = [later - earlier for earlier, later in pairwise(walls)]
    ordinary = statistics.median(each for number, each in enumerate(intervals) if number % every and number > 1)
    # The interval of number n begins with the end of step n.
    stalled = [each - ordinary for number, each in enumerate(intervals) if number and number % every == 0]
    seconds = max(statistics.median(stalled), 0.0)
    return {"seconds": seconds, "steps": seconds / ordinary}


def _train(steps: int, every: int) -> Watched:
    return run_program("recipe_run", _given(steps, every))


def _given(steps: int, every: int) -> dict[str, Any]:
    spec = {
        "kind": "pretrain", "name": "bench", "dataset": "plays", "model": "new", "steps": steps, "save_every": every,
        "evaluate_every": steps, "sequence_length": SHAPE["sequence_length"], "micro_batch_size": SHAPE["batch"],
    }  # fmt: skip
    inputs = {"model": {"path": str(new_model("5M"))}, "dataset": {"path": str(texts())}}
    return {"recipe": "pretrain", "spec": spec, "inputs": inputs}


def _train_inline(steps: int, every: int) -> Watched:
    given = {"model": str(new_model("5M")), "steps": steps, "save_every": every, **SHAPE}
    return run_program("peers.inline_saving", given)


def _losses_that_differ() -> int:
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as made:
        half = RESTORED_STEPS // 2
        given = _given(RESTORED_STEPS, half)
        whole = run_program("recipe_run", {**given, "folder": f"{made}/whole"})
        checkpoint = Path(made, "whole", "checkpoints", f"step-{half:08d}")
        resumed = run_program("recipe_run", {**given, "folder": f"{made}/resumed", "resume_from": str(checkpoint)})
    before, after = losses(whole), losses(resumed)
    if set(after) != set(range(half + 1, RESTORED_STEPS + 1)):
        raise RuntimeError(f"the resumed run did the steps {sorted(after)}")
    return sum(before[step] != loss for step, loss in after.items())


def losses(watched: Watched) -> dict[int, float]:
    """Losses by step."""
    points = [event for event in watched.more["metrics"] if event["type"] == "metric" and "loss" in event["values"]]
    return {point["step"]: point["values"]["loss"] for point in points}
