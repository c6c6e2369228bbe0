"""Removing what a killed runner left on this machine: processes of attempts that no longer own their job.

A rank dies with its runner, and a runner with its lease; what is left are processes those started and nobody waits for,
such as a data loader's. They would go on using memory and GPUs.
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from modelyard.domain.jobs.repository import Lease, find_leases
from modelyard.kit.cgroups import remove_empty_groups
from modelyard.kit.database import Database, DatabaseAway
from modelyard.kit.logs import get_logger
from modelyard.kit.settings import Settings
from modelyard.workers.engine.processes import find_tagged, run_folder, split_tag
from modelyard.workers.runner.ranks import GROUP_PREFIX, group_name

INTERVAL_SECONDS = 5.0
GRACE_SHARE = 0.25
"""A lease that ended so much of its length ago is not prolonged any more: the job may be somebody else's at any moment."""
log = get_logger(__name__)


@dataclass(frozen=True)
class Sighting:
    """Leases as the database had them, and its clock."""

    leases: Mapping[str, Lease]
    now: float


def find_strays(tags: Iterable[str], sighting: Sighting, grace_seconds: float) -> set[str]:
    """Tags of attempts that do not own their job. Pure."""
    return {tag for tag in tags if not _owns(tag, sighting, grace_seconds)}


def _owns(tag: str, sighting: Sighting, grace_seconds: float) -> bool:
    job_id, attempt, _ = split_tag(tag)
    lease = sighting.leases.get(job_id)
    if lease is None or lease.attempt != attempt or lease.expires_at is None:
        return False
    return lease.expires_at + grace_seconds >= sighting.now


class Reaper(threading.Thread):
    """Looks every few seconds; of the workers that share a data directory, one does it for all."""

    def __init__(self, settings: Settings, database: Database) -> None:
        super().__init__(name="reaper", daemon=True)
        self._settings, self._database = settings, database
        self._suspects: set[str] = set()
        """Strays at the last look: a runner that has reported may need a moment to tidy up."""
        self._lock: int | None = None
        self._stopped = threading.Event()

    def run(self) -> None:
        """Look until stopped."""
        while not self._stopped.wait(INTERVAL_SECONDS):
            if self._is_in_charge():
                self.look()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def look(self, is_sure: bool = False) -> None:
        """Remove strays seen at the last look too; with `is_sure` all of them, as when no runner can be tidying up."""
        found = find_tagged(self._settings.data_dir)
        try:
            strays = find_strays(found, self._read_leases(found), self._settings.lease_seconds * GRACE_SHARE)
        except DatabaseAway as error:
            log.warning("cannot tell strays while the database is away", error=type(error).__name__)
            return
        for tag in strays if is_sure else strays & self._suspects:
            _kill(tag, found[tag])
        self._suspects = strays
        # A runner still reads from its group how its ranks ended.
        in_use = {group_name(run_folder(self._settings, *split_tag(tag))) for tag in found}
        remove_empty_groups(GROUP_PREFIX, keep=in_use)

    def _read_leases(self, tags: Iterable[str]) -> Sighting:
        with self._database.read() as session:
            return Sighting(*find_leases(session, {split_tag(tag)[0] for tag in tags}))

    def _is_in_charge(self) -> bool:
        if self._lock is None:
            self._lock = try_lock(self._settings.folder("runs") / "reaper.lock")
        return self._lock is not None


def try_lock(file: Path) -> int | None:
    """Lock a file for as long as this process lives, and return its descriptor; None if another process has it."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _kill(tag: str, processes: Iterable[psutil.Process]) -> None:
    # Without waiting for them: who waits for a child takes its exit code away from the thread that answers for it.
    for process in processes:
        log.warning("removing a process whose attempt is over", tag=tag, pid=process.pid)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()  # psutil compares start times first: a number given out anew is somebody else's
