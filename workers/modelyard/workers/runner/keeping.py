"""Storing checkpoints beside the supervisor, so that a slow or absent store delays neither training nor the wish to stop."""

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelyard.domain.jobs.lifecycle import StaleAttempt
from modelyard.kit.logs import get_logger

RETRY_SECONDS = 2.0
STORE_PATIENCE_SECONDS = 600.0
"""How long the end of an attempt waits for a store that does not answer."""
log = get_logger(__name__)


class CheckpointKeeper(threading.Thread):
    """Stores and records checkpoints in the order they were made, each as often as it takes."""

    def __init__(self, keep_one: Callable[[dict[str, Any]], None], folder: Path) -> None:
        """`keep_one` stores and records the checkpoint of an event whose path is below `folder`."""
        super().__init__(name="checkpoints", daemon=True)
        self._keep_one, self._folder = keep_one, folder
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._is_late = threading.Event()

    def keep(self, event: dict[str, Any]) -> None:
        """Take a `checkpoint` event; returns at once."""
        self._queue.put(event)

    def finish(self, patience_seconds: float = STORE_PATIENCE_SECONDS) -> None:
        """Wait until everything is stored, or the store has been away for too long."""
        self._queue.put(None)
        self.join(timeout=patience_seconds)
        self._is_late.set()

    def run(self) -> None:
        """Store until told that no more will come."""
        for event in iter(self._queue.get, None):
            self._store_one(event)

    def _store_one(self, event: dict[str, Any]) -> None:
        while not self._is_late.is_set() and (self._folder / event["path"]).is_dir():
            try:
                return self._keep_one(event)
            except StaleAttempt:
                return None  # another attempt has its own
            except Exception as error:  # each store has errors of its own
                why = f"{type(error).__name__}: {error}"
                log.warning("checkpoint not stored; trying again", step=event["step"], error=why)
                self._is_late.wait(RETRY_SECONDS)
        return None
