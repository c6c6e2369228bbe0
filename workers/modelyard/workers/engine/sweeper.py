"""Removing run folders of jobs that have been over for long: the database holds their events, points and logs too."""

import os
import shutil
import socket
import threading

from modelyard.domain.jobs.retention import list_long_over, note_folder_removed
from modelyard.kit.database import Database, DatabaseAway
from modelyard.kit.logs import get_logger
from modelyard.kit.settings import Settings
from modelyard.workers.engine.reaper import try_lock

INTERVAL_SECONDS = 3600.0
DAY_SECONDS = 86_400.0
ASKED_AT_ONCE = 500
log = get_logger(__name__)


class Sweeper(threading.Thread):
    """Looks every hour; of the workers that share a data directory, one does it for all."""

    def __init__(self, settings: Settings, database: Database) -> None:
        super().__init__(name="sweeper", daemon=True)
        self._settings, self._database = settings, database
        self._runs = settings.folder("runs")
        self._lock: int | None = None
        self._stopped = threading.Event()

    def run(self) -> None:
        """Look until stopped."""
        while not self._stopped.wait(INTERVAL_SECONDS):
            self._lock = self._lock if self._lock is not None else try_lock(self._runs / "sweeper.lock")
            if self._lock is not None:
                self.look()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def look(self) -> None:
        """Remove the folders of jobs that ended long ago; those of jobs the database does not know are left alone."""
        names = [entry.name for entry in os.scandir(self._runs) if entry.is_dir(follow_symlinks=False)]
        for start in range(0, len(names), ASKED_AT_ONCE):
            try:
                self._sweep(names[start : start + ASKED_AT_ONCE])
            except DatabaseAway as error:
                log.warning("cannot tell old run folders while the database is away", error=type(error).__name__)
                return
            except Exception as error:  # a look that failed for whatever reason must not be the last
                log.error("run folders could not be swept", exc_info=error)

    def _sweep(self, job_ids: list[str]) -> None:
        before = self._database.now() - self._settings.keep_run_folders_days * DAY_SECONDS
        with self._database.read() as session:
            over = list_long_over(session, job_ids, before)
        for job_id in over:
            if self._stopped.is_set():
                return
            with self._database.write() as session:
                is_over = note_folder_removed(session, job_id, socket.gethostname(), before)
            if is_over:
                shutil.rmtree(self._runs / job_id, ignore_errors=True)
                log.info("old run folder removed", job_id=job_id)
