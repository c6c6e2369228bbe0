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
from modelyard.workers.runner.stalls import dump_stacks, find_place, name_silent, watch_for_stalls

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
        places = dump_stacks(stuck, logs, first_rank=4)
        assert set(places) == {4, 5}
        assert all(
            "wait_for_a_rank_that_never_comes" in text or "wait (threading.py" in text for text in map(str, places.values())
        )
        for log in logs:
            text = log.read_text()
            assert text.count("wait_for_a_rank_that_never_comes") == 2, "in both threads"
            assert "most recent call first" in text

    def test_a_rank_that_is_stopped_does_not_answer(self, tmp_path: Path, stuck: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
        logs = [tmp_path / f"rank-{rank}.log" for rank in range(2)]
        while any(log.read_text().count("stands still") < 2 for log in logs):
            assert stuck.exit_codes() == [None, None]
        os.kill(stuck.processes[1].pid, signal.SIGSTOP)
        monkeypatch.setattr("modelyard.workers.runner.stalls.DUMP_SECONDS", 2.0)  # nobody waits for it as long as in earnest
        places = dump_stacks(stuck, logs)
        assert places[1] is None


DUMP = """Thread 0x00007f01 (most recent call first):
  File "/usr/lib/threading.py", line 324 in wait

Current thread 0x00007f02 (most recent call first):
  File "/somewhere/recipes/loader.py", line 88 in next_batch
  File "/somewhere/recipes/pretrain.py", line 12 in main
"""


class TestFindPlace:
    @pytest.mark.parametrize(
        ("dump", "place"),
        [(DUMP, "next_batch (loader.py:88)"), ("", None), ("a word of the recipe\n", None)],
        ids=["the main thread is the last", "nothing", "no stack"],
    )
    def test_innermost_frame_of_the_main_thread(self, dump: str, place: str | None) -> None:
        assert find_place(dump) == place


class TestNameSilent:
    @pytest.mark.parametrize(
        ("places", "named"),
        [
            pytest.param({0: "a", 1: "a", 2: None, 3: None}, (2, "rank 2 did not answer when asked where it is"), id="mute"),
            pytest.param({0: "a", 1: "b", 2: "a"}, (1, "rank 1 is in b, the others in a"), id="one stands elsewhere"),
            pytest.param({0: "a", 1: "b"}, None, id="two ranks: either may wait for the other"),
            pytest.param({0: "a", 1: "a", 2: "b", 3: "b"}, None, id="two and two"),
            pytest.param({0: "a", 1: "b", 2: "c", 3: "a"}, None, id="everybody somewhere"),
            pytest.param({0: "a", 1: "a"}, None, id="all in one place"),
            pytest.param({0: None, 1: None}, None, id="nobody answered"),
            pytest.param({}, None, id="nobody there"),
        ],
    )
    def test_table(self, places: dict[int, str | None], named: tuple[int, str] | None) -> None:
        assert name_silent(places) == named
