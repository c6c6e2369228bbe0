"""How long a checkpoint holds training up, beside `save_checkpoint` in line; whether a resumed run repeats the unbroken one."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.measurement import Figures, Row, compare
from bench.training.material import new_model, texts
from bench.training.subjects import Watched, run_program

TARGETS = {"5M": "", "135M": "≥ 10"}
QUICK = ("5M",)
SAVES = 2
"""Checkpoints per round and way."""
RESTORED_STEPS = 12
OWN, INLINE = "Modelyard", "save_checkpoint in line"


def measure(rounds: int, is_quick: bool, peers: bool = True) -> list[Row]:
    """The stall in seconds and in steps, at two sizes, and how many losses of a resumed run differ from the unbroken run's."""
    rows = []
    for preset in QUICK if is_quick else TARGETS:
        rows += rows_of(preset, run_program("checkpoint_stall", {"preset": preset, "rounds": SAVES * rounds}).more)
    return [*rows, Row("losses that differ after a resume at half, of 6", "losses", _losses_that_differ(), target="0")]


def rows_of(preset: str, found: Mapping[str, Sequence[Mapping[str, float]]]) -> list[Row]:
    """The rows of one size, from what `checkpoint_stall` saw."""
    figures, label = {OWN: Figures(), INLINE: Figures()}, f"checkpoint stall, {preset}"
    for name, rounds in ((OWN, found["background"]), (INLINE, found["in_line"])):
        for each, plain in zip(rounds, found["in_line"], strict=True):  # nothing is written beside the steps after a save in line
            figures[name].add({**each, "steps": each["stall"] / plain["step"]})
    return [
        compare(label, "stall", "s", figures, OWN, INLINE, TARGETS[preset], more_is_better=False),
        compare(f"{label}, in steps", "steps", "steps", figures, OWN, INLINE, "≤ 1", more_is_better=False),
        compare(f"a step while one is written, {preset}", "step", "s", figures, OWN, INLINE, more_is_better=False),
    ]


def _losses_that_differ() -> int:
    half = RESTORED_STEPS // 2
    spec = {
        "kind": "pretrain", "name": "bench", "dataset": "plays", "model": "new", "steps": RESTORED_STEPS, "save_every": half,
        "evaluate_every": RESTORED_STEPS, "sequence_length": 128, "micro_batch_size": 4,
    }  # fmt: skip
    inputs = {"model": {"path": str(new_model("5M"))}, "dataset": {"path": str(texts())}}
    given = {"recipe": "pretrain", "spec": spec, "inputs": inputs}
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as made:
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
