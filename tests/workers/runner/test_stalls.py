"""A run that stands still says where before it is ended."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.kit.settings import Settings
from modelyard.workers.runner.ranks import Ranks
from modelyard.workers.runner.stalls import dump_stacks, watch_for_stalls

# A recipe with a second thread; both stand still.
STUCK = """
import threading
from modelyard.workers.recipe import run_recipe

def wait_for_a_rank_that_never_comes():
    print("stands still", flush=True)
    threading.Event().wait()

def main(run):
    threading.Thread(target=wait_for_a_rank_that_never_comes, daemon=True).start()
    run.phase("step")
    run.metrics(41, loss=1.0)
    wait_for_a_rank_that_never_comes()

run_recipe(main)
"""
SPEC = {"kind": "import", "name": "x", "source": {"package": "p", "file": "f"}}


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[Ranks]:
    """Two ranks that have said `phase step` and stand still."""
    (tmp_path / "run.json").write_text(json.dumps({"spec": SPEC}))
    (tmp_path / "recipe.py").write_text(STUCK)
    ranks = Ranks([start(tmp_path, rank) for rank in range(2)])
    yield ranks
    for process in ranks.processes:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def start(folder: Path, rank: int) -> "subprocess.Popen[bytes]":
    with (folder / f"rank-{rank}.log").open("wb") as output:
        command = [sys.executable, str(folder / "recipe.py"), "--run-dir", str(folder)]
        return subprocess.Popen(command, env={**os.environ, "RANK": str(rank)}, stdout=output, stderr=output)


class TestStall:
    def test_is_noticed_and_explained_by_the_stacks_of_all_ranks(self, tmp_path: Path, stuck: Ranks) -> None:
        watch = watch_for_stalls(Settings(_env_file=None, hang_step_seconds=0.2), tmp_path)
        stall = watch.look()
        while stall is None:  # it loads, which may take its time
            assert stuck.exit_codes() == [None, None], (tmp_path / "rank-0.log").read_text()
            stall = watch.look()
        assert (stall.phase, stall.step) == ("step", 41)

        logs = [tmp_path / f"rank-{rank}.log" for rank in range(2)]
        while any(log.read_text().count("stands still") < 2 for log in logs):
            assert stuck.exit_codes() == [None, None]
        dump_stacks(stuck, logs)
        for log in logs:
            text = log.read_text()
            assert text.count("wait_for_a_rank_that_never_comes") == 2, "in both threads"
            assert "most recent call first" in text
