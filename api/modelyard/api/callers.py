"""Who asks: keys looked up lately are remembered for a moment, so that a storm of requests does not ask for each."""

import hashlib
import time

from starlette.concurrency import run_in_threadpool

from modelyard.domain.projects.repository import Caller, find_caller
from modelyard.kit.database import Database

REMEMBERED_SECONDS = 2.0
"""A key revoked through another process may be used for so much longer; through this one not at all."""
MAX_REMEMBERED = 10_000


class Callers:
    """Finds the caller of a key. Only keys that are valid are remembered, by their hash."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[bytes, tuple[Caller, float]] = {}

    async def find(self, secret: str) -> Caller | None:
        """Whose key this is; None if it is unknown or revoked."""
        caller = self.recall(secret)
        if caller is not None:
            return caller
        known = self._known  # `forget` makes another one, so that what is being looked up now is not remembered
        asked_at = time.monotonic()
        caller = await run_in_threadpool(self._look_up, secret)
        if caller is not None:
            if len(known) >= MAX_REMEMBERED:
                known.clear()
            known[_hash(secret)] = (caller, asked_at + REMEMBERED_SECONDS)
        return caller

    def recall(self, secret: str) -> Caller | None:
        """Whose key this is, if that was found out a moment ago."""
        caller, until = self._known.get(_hash(secret), (None, 0.0))
        return caller if time.monotonic() < until else None

    def forget(self) -> None:
        """Look every key up again: call this after one was revoked."""
        self._known = {}

    def _look_up(self, secret: str) -> Caller | None:
        with self._database.read() as session:
            return find_caller(session, secret)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
