"""Slots are kept by the kernel for as long as one process of a job lives."""

import subprocess
import sys
from pathlib import Path

import pytest

from modelyard.kit.slots import SlotPool

# Takes two slots, lets a child inherit them, says who the child is, and waits to be killed.
PARENT = """
import subprocess, sys
from pathlib import Path
from modelyard.kit.slots import SlotPool
held = SlotPool(Path(sys.argv[1]), "train", 3).take(2, "cpu")
child = subprocess.Popen([sys.executable, "-c", "input()"], pass_fds=held.descriptors, stdin=subprocess.PIPE)
print(child.pid, flush=True)
input()
"""


@pytest.fixture
def pool(tmp_path: Path) -> SlotPool:
    """Three CPU slots and two GPUs."""
    return SlotPool(tmp_path, "train", 3, (0, 3))


class TestTake:
    @pytest.mark.parametrize(
        ("count", "accelerator", "names"),
        [
            (1, "cpu", ["cpu-0"]),
            (2, "gpu", ["gpu-0", "gpu-3"]),
            (2, "any", ["gpu-0", "gpu-3"]),
            (3, "any", ["cpu-0", "cpu-1", "cpu-2"]),
        ],
    )
    def test_takes_what_was_asked_for(self, pool: SlotPool, count: int, accelerator: str, names: list[str]) -> None:
        held = pool.take(count, accelerator)
        assert held is not None
        assert [slot.name for slot in held.slots] == names
        assert held.accelerator == names[0][:3]

    def test_all_or_nothing(self, pool: SlotPool) -> None:
        first = pool.take(2, "cpu")
        assert first is not None
        assert pool.take(2, "cpu") is None
        assert pool.count_free()["cpu"] == {"total": 3, "free": 1}

    def test_more_than_there_are(self, pool: SlotPool) -> None:
        assert pool.take(3, "gpu") is None
        assert not pool.could_fit(4, "any")
        assert pool.could_fit(3, "any")

    def test_any_takes_cpu_where_gpus_are_busy(self, pool: SlotPool) -> None:
        assert pool.take(1, "gpu") is not None
        held = pool.take(2, "any")
        assert held is not None
        assert held.accelerator == "cpu"

    def test_release_frees(self, pool: SlotPool) -> None:
        held = pool.take(3, "cpu")
        assert held is not None
        assert not pool.fits(1, "cpu")
        held.release()
        assert pool.fits(3, "cpu")

    def test_workers_share_gpus_but_not_cpu_slots(self, tmp_path: Path) -> None:
        first, second = SlotPool(tmp_path, "first", 1, (0,)), SlotPool(tmp_path, "second", 1, (0,))
        assert first.take(1, "gpu") is not None
        assert second.take(1, "gpu") is None
        assert first.take(1, "cpu") is not None
        assert second.take(1, "cpu") is not None


class TestInherit:
    def test_a_slot_lives_as_long_as_the_last_heir(self, tmp_path: Path) -> None:
        pool = SlotPool(tmp_path, "train", 3)
        command = [sys.executable, "-c", PARENT, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            assert pool.count_free()["cpu"]["free"] == 1
            # The child's standard input is a pipe from the parent; a copy of it outlives the parent here.
            with Path(f"/proc/{parent.pid}/fd/{_writing_end(parent.pid, child)}").open("wb") as lifeline:
                parent.kill()
                parent.wait()
                assert pool.count_free()["cpu"]["free"] == 1
                lifeline.write(b"\n")
            _wait_until_gone(child)
        assert pool.count_free()["cpu"]["free"] == 3


def _writing_end(parent: int, child: int) -> str:
    """The parent's descriptor of the pipe the child reads from."""
    pipe = Path(f"/proc/{child}/fd/0").readlink()
    return next(each.name for each in Path(f"/proc/{parent}/fd").iterdir() if each.readlink() == pipe)


def _wait_until_gone(pid: int) -> None:
    import psutil

    if psutil.pid_exists(pid):
        psutil.Process(pid).wait(timeout=10)
