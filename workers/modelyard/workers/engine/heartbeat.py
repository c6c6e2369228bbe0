"""A worker's sign of life: its row says what it serves and how much of it is free."""

import os
import threading
import time

from modelyard.domain.workers.repository import report_worker
from modelyard.domain.workers.tables import Worker
from modelyard.kit.database import Database
from modelyard.kit.logs import get_logger
from modelyard.workers.engine.capacity import Capacity

INTERVAL_SECONDS = 5.0
log = get_logger(__name__)


class Heartbeat(threading.Thread):
    """Writes the worker's row every few seconds until stopped; a database that is away is tried again."""

    def __init__(self, database: Database, capacity: Capacity, worker: Worker) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._database, self._capacity, self._worker = database, capacity, worker
        self._stopped = threading.Event()

    def run(self) -> None:
        """Beat until stopped."""
        while not self._stopped.wait(INTERVAL_SECONDS):
            self.beat()

    def beat(self, state: str | None = None) -> None:
        """Write the row once."""
        self._worker.state = state or ("draining" if self._capacity.is_draining else "online")
        self._worker.slots = self._capacity.count_free()
        self._worker.heartbeat_at = time.time()
        try:
            with self._database.write() as session:
                report_worker(session, Worker(**self._worker.model_dump()))
        except Exception as error:  # a beat missed for whatever reason must not be the last
            log.warning("heartbeat failed", error=f"{type(error).__name__}: {error}")

    def stop(self) -> None:
        """Say good-bye."""
        self._stopped.set()
        self.beat("offline")


def describe_worker(name: str, host: str, stages: list[str], queues: list[str]) -> Worker:
    """The row of this process."""
    now = time.time()
    return Worker(
        id=name, host=host, pid=os.getpid(), stages=stages, queues=queues, state="online", started_at=now, heartbeat_at=now
    )
