"""Who asks: keys looked up lately are remembered for a moment, so that a storm of requests does not ask for each."""

import asyncio
import hashlib
import time

from starlette.concurrency import run_in_threadpool

from modelyard.domain.projects.repository import Caller, find_caller
from modelyard.kit.database import Database

REMEMBERED_SECONDS = 2.0
"""A key revoked through another process may be used for so much longer; through this one not at all."""
MAX_REMEMBERED = 10_000
_Question = tuple[asyncio.AbstractEventLoop, bytes]
"""Where it was asked, and the hash of the key."""


class Callers:
    """Finds the caller of a key. Only keys that are valid are remembered, by their hash."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[bytes, tuple[Caller, float]] = {}
        self._asked: dict[_Question, asyncio.Task[Caller | None]] = {}

    async def find(self, secret: str) -> Caller | None:
        """Whose key this is; None if it is unknown or revoked. Requests that ask at the same time share one look."""
        hash_ = _hash(secret)
        caller, until = self._known.get(hash_, (None, 0.0))
        if time.monotonic() < until:
            return caller
        asked, question = self._asked, (asyncio.get_running_loop(), hash_)  # `forget` makes another one, as of `known` below
        if question not in asked:
            asked[question] = asyncio.create_task(self._ask(secret))
            asked[question].add_done_callback(lambda _: asked.pop(question, None))
        return await asyncio.shield(asked[question])  # others may wait for it when who asked first has gone

    def forget(self) -> None:
        """Look every key up again: call this after one was revoked."""
        self._known, self._asked = {}, {}

    async def _ask(self, secret: str) -> Caller | None:
        known = self._known  # `forget` makes another one, so that what is being looked up now is not remembered
        asked_at = time.monotonic()
        caller = await run_in_threadpool(self._look_up, secret)
        if caller is not None:
            if len(known) >= MAX_REMEMBERED:
                known.clear()
            known[_hash(secret)] = (caller, asked_at + REMEMBERED_SECONDS)
        return caller

    def _look_up(self, secret: str) -> Caller | None:
        with self._database.read() as session:
            return find_caller(session, secret)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
