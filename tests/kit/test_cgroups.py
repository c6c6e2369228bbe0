"""Control groups: what the kernel's files say, and, where this machine lets us make groups, the end of all in one."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.kit.cgroups import ControlGroup, find_own_group, make_group, parse_memory_events, remove_empty_groups

MOUNTS = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"
HYBRID = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
# Two generations: the second goes on when the first is gone, and in a session of its own.
FAMILY = """
import os, signal, sys
sys.stdin.readline()
if os.fork() == 0:
    os.setsid()
    os.fork()
os.write(1, b"here\\n")  # at once: three processes share this pipe
signal.pause()
"""


class TestFindOwnGroup:
    @pytest.mark.parametrize(
        ("mounts", "membership", "folder"),
        [
            (MOUNTS, "0::/system.slice/modelyard.service\n", "/sys/fs/cgroup/system.slice/modelyard.service"),
            (MOUNTS, "0::/\n", "/sys/fs/cgroup"),
            (HYBRID, "8:pids:/a\n0::/b\n", "/sys/fs/cgroup/unified/b"),
            ("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n", "8:cpu:/a\n", None),
            (MOUNTS, "8:cpu:/a\n", None),
            ("", "", None),
        ],
    )
    def test_table(self, mounts: str, membership: str, folder: str | None) -> None:
        assert find_own_group(mounts, membership) == (Path(folder) if folder else None)


class TestMemoryEvents:
    @pytest.mark.parametrize(
        ("text", "kills"),
        [("low 0\nhigh 3\nmax 12\noom 2\noom_kill 5\noom_group_kill 0\n", 5), ("low 0\n", 0), ("", 0), ("nonsense here\n", 0)],
    )
    def test_counts(self, tmp_path: Path, text: str, kills: int) -> None:
        (tmp_path / "memory.events").write_text(text)
        assert parse_memory_events(text).get("oom_kill", 0) == ControlGroup(tmp_path).count_oom_kills() == kills

    def test_a_kernel_that_does_not_count(self, tmp_path: Path) -> None:
        assert ControlGroup(tmp_path).count_oom_kills() == 0


class TestMakeGroup:
    def test_where_there_are_none(self, tmp_path: Path) -> None:
        assert make_group("one", tmp_path) is None, "a folder is no group"
        assert list(tmp_path.iterdir()) == []
        assert make_group("one", tmp_path / "nowhere") is None


@pytest.fixture
def group() -> Iterator[ControlGroup]:
    """A group of this machine."""
    made = make_group(f"modelyard-test-{uuid.uuid4().hex}")
    if made is None:
        pytest.skip("this process may not make control groups (cgroup v2 with cgroup.kill, Linux 5.14)")
    yield made
    made.kill()
    made.remove()


class TestKill:
    def test_all_generations_at_once(self, group: ControlGroup) -> None:
        command = [sys.executable, "-c", FAMILY]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
            group.add(parent.pid)
            assert parent.stdin is not None
            assert parent.stdout is not None
            parent.stdin.write("go\n")
            parent.stdin.flush()
            try:
                assert [parent.stdout.readline() for _ in range(3)] == ["here\n"] * 3
                assert len(group.pids()) == 3
                group.kill()
                assert parent.wait(timeout=10) == -9
            finally:
                parent.kill()
        assert group.pids() == []

    def test_a_group_with_processes_stays(self, group: ControlGroup) -> None:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
            group.add(process.pid)
            remove_empty_groups("modelyard-test-")
            assert group.pids() == [process.pid]
            group.kill()
            process.wait(timeout=10)
        remove_empty_groups("modelyard-test-", keep=[group.folder.name])
        assert group.folder.exists()
        remove_empty_groups("modelyard-test-")
        assert not group.folder.exists()
        group.kill()  # nothing to end: it can only have been empty
        assert (group.pids(), group.count_oom_kills()) == ([], 0)
        group.folder.mkdir()  # for the fixture, which lets go of it
