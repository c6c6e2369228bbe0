"""Find and end processes of a platform whose supervisor is gone."""

from collections.abc import Iterable

import psutil

MARK = "MODELYARD_PLATFORM"
"""Environment variable every process of a platform carries; children inherit it, whoever adopts them."""


def find_processes(platform_id: str, known: Iterable[tuple[int, float]] = ()) -> list[psutil.Process]:
    """Every living process of a platform, except this one.

    `known` are pids with creation times: some servers overwrite their environment with a process title.
    """
    identities = {(pid, round(created, 1)) for pid, created in known}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == psutil.Process().pid or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if (process.pid, round(process.create_time(), 1)) in identities or _is_marked(process, platform_id):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def end_processes(platform_id: str, known: Iterable[tuple[int, float]], grace_seconds: float) -> int:
    """Ask all of them to save and leave, kill the rest after `grace_seconds`; return how many there were."""
    known = list(known)
    found = find_processes(platform_id, known)
    _signal(_find_tops(found), "terminate")
    psutil.wait_procs(found, timeout=grace_seconds)
    # A process may have started another one meanwhile.
    while left := find_processes(platform_id, known):
        _signal(left, "kill")
        psutil.wait_procs(left, timeout=5)
    return len(found)


def _find_tops(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those whose parent is not among them: a supervisor of ranks must hear it first, to let them save."""
    pids = {process.pid for process in processes}
    tops = []
    for process in processes:
        try:
            if process.ppid() not in pids:
                tops.append(process)
        except psutil.NoSuchProcess:
            continue
    return tops


def _is_marked(process: psutil.Process, platform_id: str) -> bool:
    try:
        return process.environ().get(MARK) == platform_id
    except (psutil.AccessDenied, OSError):
        return False  # another user's process is none of ours


def _signal(processes: list[psutil.Process], verb: str) -> None:
    for process in processes:
        try:
            getattr(process, verb)()
        except psutil.NoSuchProcess:
            continue
