"""Control groups (cgroup v2): all processes of an attempt in one, so that one write ends them all and the kernel counts.

Used where this process may make groups: systemd with `Delegate=yes`, a container with a writable cgroup file system, or
root. Elsewhere there is none, and processes are told by their tags.
"""

import contextlib
import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

GONE_SECONDS = 10.0


def parse_memory_events(text: str) -> dict[str, int]:
    """Read `memory.events`: name -> how often, e.g. `oom_kill` for processes the kernel killed for want of memory."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def find_own_group(mounts: str, membership: str) -> Path | None:
    """The folder of this process's group, from `/proc/self/mounts` and `/proc/self/cgroup`; None without version 2. Pure."""
    mounted = [line.split() for line in mounts.splitlines()]
    root = next((fields[1] for fields in mounted if len(fields) > 2 and fields[2] == "cgroup2"), None)
    own = re.search(r"^0::(/.*)$", membership, flags=re.MULTILINE)
    return Path(root) / own[1].lstrip("/") if root and own else None


def read_own_group() -> Path | None:
    """The folder of this process's group; None where there is no version 2."""
    try:
        return find_own_group(Path("/proc/self/mounts").read_text(), Path("/proc/self/cgroup").read_text())
    except OSError:
        return None


@dataclass(frozen=True)
class ControlGroup:
    """One group, by its folder."""

    folder: Path

    def add(self, pid: int) -> None:
        """Put a process into the group; what it starts from now on belongs to it too. Raises `OSError`."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def pids(self) -> list[int]:
        """Its living processes; none if the group is gone, which only an empty one can be."""
        with contextlib.suppress(OSError):
            return [int(line) for line in (self.folder / "cgroup.procs").read_text().split()]
        return []

    def kill(self) -> None:
        """End every process of the group, and those they start meanwhile; wait until none is left. Needs Linux 5.14."""
        with contextlib.suppress(FileNotFoundError):  # removed by another: it was empty
            (self.folder / "cgroup.kill").write_text("1")
        deadline = time.monotonic() + GONE_SECONDS
        while self.pids() and time.monotonic() < deadline:
            time.sleep(0.01)

    def count_oom_kills(self) -> int:
        """Processes of the group the kernel killed for want of memory; 0 where the kernel does not count them."""
        with contextlib.suppress(OSError):
            return parse_memory_events((self.folder / "memory.events").read_text()).get("oom_kill", 0)
        return 0

    def remove(self) -> None:
        """Let go of an empty group; one with processes stays."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def remove_empty_groups(prefix: str, keep: Collection[str] = (), parent: Path | None = None) -> None:
    """Let go of groups whose makers were killed; those with processes stay, and those named in `keep`."""
    parent = parent or read_own_group()
    for folder in parent.glob(f"{prefix}*/") if parent else ():
        if folder.name not in keep:
            ControlGroup(folder).remove()


def make_group(name: str, parent: Path | None = None) -> ControlGroup | None:
    """Make a group below a parent, by default this process's own; None where that is not allowed."""
    parent = parent or read_own_group()
    if parent is None:
        return None
    folder = parent / name
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    if (folder / "cgroup.kill").exists():
        return ControlGroup(folder)
    ControlGroup(folder).remove()  # an older kernel: of no use
    return None
