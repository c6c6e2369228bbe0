"""Runner processes as a worker sees them: start, wait, and remove what a killed one left behind."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from modelyard.kit.logs import get_logger
from modelyard.kit.settings import Settings
from modelyard.kit.slots import HeldSlots

ATTEMPT_TAG = "MODELYARD_ATTEMPT"
"""Every process of an attempt carries this variable, so that strays can be told from others."""
ALIVE_FILE = "alive.lock"
"""Every process of an attempt has this file of its run folder open; locked while any of them lives."""
EXIT_ALREADY_RUNNING = 78
"""Of a runner that found a process of its very attempt alive, and left it in peace."""
_RUN_FOLDER = re.compile(r"(?P<data>/.+)/runs/(?P<job>[^/]+)/(?P<attempt>[0-9]+)(?:/node-(?P<node>[0-9]+))?")
_TITLE = re.compile(r"\S+ --run-dir (.+) (?:rank [0-9]+|runner)")
_INTERPRETER = os.path.realpath(sys.executable)
log = get_logger(__name__)


def tag_of(job_id: str, attempt: int, node_rank: int = 0) -> str:
    """The value of the tag: names the attempt, and the node if it is another than the first; nothing else."""
    return f"{job_id}:{attempt}" + (f":{node_rank}" if node_rank else "")


def split_tag(tag: str) -> tuple[str, int, int]:
    """The job, the attempt and the node rank a tag names."""
    job_id, attempt, *node_rank = tag.split(":")
    return job_id, int(attempt), int(node_rank[0]) if node_rank else 0


def run_folder(settings: Settings, job_id: str, attempt: int, node_rank: int = 0) -> Path:
    """Where one attempt keeps its files on this machine; several nodes of a gang may be workers of one machine."""
    folder = settings.folder("runs") / job_id / str(attempt)
    return folder / f"node-{node_rank}" if node_rank else folder


def runner_environment(settings: Settings, tag: str, held: HeldSlots) -> dict[str, str]:
    """What a runner finds in its environment, whether started as a program or forked."""
    return {
        **os.environ,
        ATTEMPT_TAG: tag,
        "MODELYARD_DATA_DIR": str(settings.data_dir.resolve()),
        "MODELYARD_SLOTS": ",".join(slot.name for slot in held.slots),
        "MODELYARD_SLOT_DESCRIPTORS": ",".join(map(str, held.descriptors)),
    }


def runner_arguments(job_id: str, attempt: int, node_rank: int = 0) -> list[str]:
    """What a runner's `main` is given."""
    return ["--job", job_id, "--attempt", str(attempt), "--node-rank", str(node_rank)]


def start_runner(settings: Settings, job_id: str, attempt: int, held: HeldSlots, node_rank: int = 0) -> subprocess.Popen[bytes]:
    """Start the runner of an attempt in a session of its own, so that it outlives this worker; it inherits the slots."""
    folder = run_folder(settings, job_id, attempt, node_rank)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "runner.log").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "modelyard.workers.runner.main", *runner_arguments(job_id, attempt, node_rank)],
            env=runner_environment(settings, tag_of(job_id, attempt, node_rank), held),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=held.descriptors,
            start_new_session=True,
        )


def kill_tagged(tag: str) -> int:
    """Kill every process that belongs to an attempt; return how many there were."""
    strays = [process for process in psutil.process_iter() if process.pid != os.getpid() and read_tag(process) == tag]
    for process in strays:
        log.warning("killing a process its runner left behind", tag=tag, pid=process.pid)
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(strays, timeout=10)
    return len(strays)


def find_tagged(data_dir: Path) -> dict[str, list[psutil.Process]]:
    """Processes of attempts that write below a data directory, by tag."""
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        mark = read_mark(process)
        if mark is not None and mark.data_dir == str(data_dir.resolve()):
            found.setdefault(mark.tag, []).append(process)
    return found


@dataclass(frozen=True)
class Mark:
    """What tells the attempt a process belongs to."""

    tag: str
    data_dir: str


def read_tag(process: psutil.Process) -> str | None:
    """The attempt a process belongs to, if any."""
    mark = read_mark(process)
    return mark.tag if mark else None


def read_mark(process: psutil.Process) -> Mark | None:
    """The attempt a process belongs to, if any: by its environment, else by what it has open, else by its title.

    A program that was started shows the environment it was given. A forked process shows that of the warm parent, but has
    inherited the open `alive.lock`; one that closed everything, as daemons do, still carries the title of who forked it.
    """
    environment = _environment(process)
    if ATTEMPT_TAG in environment:
        return Mark(environment[ATTEMPT_TAG], environment.get("MODELYARD_DATA_DIR", ""))
    return next((mark for mark in map(_parse_path, _open_files(process)) if mark), None) or _parse_title(process)


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def _open_files(process: psutil.Process) -> Iterator[str]:
    # Not psutil's open_files: it asks about each file where its name is all we need. And only of processes that run this
    # interpreter, for a fork does: others have many thousands of files.
    folder = f"/proc/{process.pid}/fd"
    try:
        if not os.readlink(f"/proc/{process.pid}/exe").startswith(_INTERPRETER):
            return
        for descriptor in os.listdir(folder):
            with contextlib.suppress(OSError):
                yield os.readlink(f"{folder}/{descriptor}")
    except OSError:
        return


def _parse_path(path: str) -> Mark | None:
    """`<data>/runs/<job>/<attempt>/alive.lock`, and with `node-<n>` for further nodes."""
    return _mark_of(_RUN_FOLDER.fullmatch(path.removesuffix(f"/{ALIVE_FILE}"))) if path.endswith(f"/{ALIVE_FILE}") else None


def _parse_title(process: psutil.Process) -> Mark | None:
    """`<module> --run-dir <run folder> rank <n>`, as forked ranks call themselves; nobody else's command line counts."""
    try:
        title = " ".join(process.cmdline()).strip()  # what remains of the arguments below the title is blanks
    except (psutil.Error, OSError):
        return None
    found = _TITLE.fullmatch(title)
    return _mark_of(_RUN_FOLDER.fullmatch(found[1])) if found else None


def _mark_of(found: re.Match[str] | None) -> Mark | None:
    if found is None:
        return None
    return Mark(tag_of(found["job"], int(found["attempt"]), int(found["node"] or 0)), found["data"])
