"""The benchmark of training: its arithmetic, and the script for GPUs on a CPU."""

import argparse
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.training.__main__ import PARTS as BENCH_PARTS
from bench.training.__main__ import find_parts, list_missing
from bench.training.checkpointing import rows_of
from bench.training.subjects import Watched

SCRIPT = Path(__file__).parents[2] / "bench" / "gpu_train.py"
PARTS = ["matmul", "124M", "1B", "8B-dense", "8B-dense: peft + Trainer", "8B-skewed", "8B-skewed: peft + Trainer"]


def watched(walls: list[float]) -> Watched:
    return Watched(started=0.0, stamps=[(wall, wall / 2) for wall in walls], peak_memory_mib=1.0, more={})


class TestStopwatchFigures:
    @pytest.mark.parametrize(
        ("skipped", "expected"),
        [(0, (8.0, 4.0, 4)), (2, (3.0, 1.5, 2))],
    )
    def test_time_of_steps_leaves_the_first_ones_out(self, skipped: int, expected: tuple[float, float, int]) -> None:
        assert watched([10, 13, 15, 16, 18]).seconds_of_steps(skipped) == expected

    def test_first_step_counts_from_the_start_of_the_process(self) -> None:
        assert watched([10, 13, 15]).first_step() == (13, 6.5)

    def test_a_stall_is_held_against_steps_beside_which_nothing_is_written(self) -> None:
        found = {"background": [{"stall": 0.5, "step": 3.0}], "in_line": [{"stall": 6.0, "step": 2.0}]}
        stall, steps, beside = rows_of("135M", found)
        assert (stall.ours, stall.peer, stall.ratio, stall.target) == (0.5, 6.0, 12.0, "≥ 10")
        assert (steps.ours, steps.peer) == (0.25, 3.0)
        assert (beside.ours, beside.peer) == (3.0, 2.0)


class TestFindParts:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("pretrain", ["pretrain-0.1M", "pretrain-5M", "pretrain-135M"]),
            ("compile,finetune-5M", ["finetune-5M", "compile"]),
            ("", list(BENCH_PARTS)),
        ],
    )
    def test_takes_the_beginnings_of_names(self, text: str, expected: list[str]) -> None:
        assert find_parts(text) == expected

    def test_names_what_there_is(self) -> None:
        with pytest.raises(argparse.ArgumentTypeError, match=r"no part start-up; .*pretrain-5M"):
            find_parts("start-up")


def test_says_which_peers_are_missing() -> None:
    assert list_missing(["json", "no_such_peer"]) == ["no_such_peer"]


def run_script(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


@pytest.mark.slow
class TestGpuTrain:
    def test_every_part_runs_on_a_cpu_and_claims_nothing_of_a_gpu(self) -> None:
        done = run_script("--size", "tiny", "--device", "cpu")
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]  # DeepSpeed logs there too
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        assert [row["part"] for row in rows] == PARTS, done.stderr[-2000:]
        assert not any("error" in row for row in rows)
        assert all(row["tokens_per_second"] > 0 and row["mfu_of_989"] is None for row in rows[1:])
        assert "not a measurement" in rows[0]["hardware"]

    def test_packed_conversations_that_see_each_other_are_refused(self) -> None:
        import torch

        from bench import gpu_train

        setting = gpu_train.Setting("cpu", gpu_train.TINY, compiles=False, deadline=0.0, out=None)
        shape = gpu_train.TINY["8B"]
        model = gpu_train.add_adapter(gpu_train.build_model(shape, setting, torch.float32))
        batch = next(gpu_train.packed_batches(shape, [[20, 30]], "cpu"))
        gpu_train.check_apart(model, batch)
        core = model.get_base_model().model
        # Told that every token is to be seen, transformers does not look at the positions.
        core.forward = partial(core.forward, attention_mask=torch.ones_like(batch["input_ids"]))
        with pytest.raises(ValueError, match="see each other"):
            gpu_train.check_apart(model, batch)

    def test_no_gpu_is_said_and_nothing_measured(self) -> None:
        done = run_script("--size", "tiny")
        assert done.returncode == 2
        assert done.stdout == ""
        assert "no GPU was available" in done.stderr
