"""A worker's sign of life: its row says what it serves and how much of it is free; others' wishes are read more often."""

import os
import threading
from collections.abc import Collection
from typing import Any

from modelyard.domain.workers.outlook import read_outlook
from modelyard.domain.workers.repository import report_worker
from modelyard.domain.workers.tables import Worker
from modelyard.kit.database import Database, DatabaseAway
from modelyard.kit.logs import get_logger
from modelyard.kit.memory import read_gpu_memory, read_host_memory
from modelyard.workers.engine.capacity import Capacity

LOOK_SECONDS = 1.0
"""How soon a worker learns that it is drained, that its host is excluded, or that slots are kept for a job."""
LOOKS_PER_BEAT = 5
log = get_logger(__name__)


class Heartbeat(threading.Thread):
    """Writes the worker's row every few seconds until stopped; a database that is away is tried again."""

    def __init__(self, database: Database, capacity: Capacity, worker: Worker) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._database, self._capacity, self._worker = database, capacity, worker
        self._stopped = threading.Event()
        self._is_start = True

    def run(self) -> None:
        """Look and beat until stopped."""
        looks = 0
        while not self._stopped.wait(LOOK_SECONDS):
            looks += 1
            self.look()
            if looks % LOOKS_PER_BEAT == 0:
                self.beat()

    def look(self) -> None:
        """Read what others decided about this worker; while the database is away, what was read last holds."""
        try:
            with self._database.read() as session:
                outlook = read_outlook(session, self._worker.id, self._worker.host)
        except DatabaseAway:
            return  # the next beat says so
        except Exception as error:  # a look missed for whatever reason must not be the last
            log.warning("could not look", error=f"{type(error).__name__}: {error}")
            return
        if outlook.is_open != self._capacity.outlook.is_open:
            log.info("takes jobs again" if outlook.is_open else "takes no jobs: drained, or its host is excluded")
        self._capacity.outlook = outlook

    def beat(self, state: str | None = None) -> None:
        """Write the row once; the first time after a look, for it may have been drained in an earlier life."""
        if self._is_start:
            self.look()
        self._worker.state = state or ("draining" if self._capacity.is_draining else "online")
        self._worker.slots = _describe_slots(self._capacity)
        try:
            with self._database.write() as session:
                report_worker(session, self._worker, self._is_start)
            self._is_start = False
        except Exception as error:  # a beat missed for whatever reason must not be the last
            log.warning("heartbeat failed", error=f"{type(error).__name__}: {error}")

    def stop(self) -> None:
        """Say good-bye."""
        self._stopped.set()
        self.beat("offline")


def describe_worker(name: str, host: str, stages: list[str], queues: list[str], gpus: Collection[int] = ()) -> Worker:
    """The row of this process; the database adds the times."""
    return Worker(
        id=name,
        host=host,
        pid=os.getpid(),
        stages=stages,
        queues=queues,
        host_memory_bytes=read_host_memory(),
        gpu_memory_bytes=read_gpu_memory(gpus),
        state="online",
        started_at=0.0,
        heartbeat_at=0.0,
    )


def _describe_slots(capacity: Capacity) -> dict[str, Any]:
    names = capacity.pool.list_names()
    return {kind: {**counts, "names": names[kind]} for kind, counts in capacity.count_free().items()}
