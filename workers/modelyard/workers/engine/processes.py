"""Runner processes as a worker sees them: start, wait, and remove what a killed one left behind."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

from modelyard.kit.logs import get_logger
from modelyard.kit.settings import Settings
from modelyard.kit.slots import HeldSlots

ATTEMPT_TAG = "MODELYARD_ATTEMPT"
"""Every process of an attempt carries this variable, so that strays can be told from others."""
log = get_logger(__name__)


def tag_of(job_id: str, attempt: int) -> str:
    """The value of the tag: names the attempt and nothing else."""
    return f"{job_id}:{attempt}"


def run_folder(settings: Settings, job_id: str, attempt: int) -> Path:
    """Where one attempt keeps its files on this machine."""
    return settings.folder("runs") / job_id / str(attempt)


def start_runner(settings: Settings, job_id: str, attempt: int, held: HeldSlots) -> subprocess.Popen[bytes]:
    """Start the runner of an attempt in a session of its own, so that it outlives this worker; it inherits the slots."""
    folder = run_folder(settings, job_id, attempt)
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        ATTEMPT_TAG: tag_of(job_id, attempt),
        "MODELYARD_DATA_DIR": str(settings.data_dir.resolve()),
        "MODELYARD_SLOTS": ",".join(slot.name for slot in held.slots),
        "MODELYARD_SLOT_DESCRIPTORS": ",".join(map(str, held.descriptors)),
    }
    command = [sys.executable, "-m", "modelyard.workers.runner.main", "--job", job_id, "--attempt", str(attempt)]
    with (folder / "runner.log").open("ab") as output:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=held.descriptors,
            start_new_session=True,
        )


def kill_tagged(tag: str) -> int:
    """Kill every process that carries an attempt's tag; return how many there were."""
    strays = [process for process in psutil.process_iter() if read_tag(process) == tag and process.pid != os.getpid()]
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
        tag = read_tag(process)
        if tag and _environment(process).get("MODELYARD_DATA_DIR") == str(data_dir.resolve()):
            found.setdefault(tag, []).append(process)
    return found


def read_tag(process: psutil.Process) -> str | None:
    """The attempt a process belongs to, if any."""
    return _environment(process).get(ATTEMPT_TAG)


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}
