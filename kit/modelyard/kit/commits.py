"""Group commit: one thread writes for everybody, taking what has queued up into one transaction.

A commit costs the same for one request as for a hundred, and SQLite lets only one writer in at a time: so requests queue up
here, in memory, and each is answered once the transaction it travelled in is durable.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlmodel import Session

from modelyard.kit.database import Database, DatabaseAway

Item = TypeVar("Item")
Answer = TypeVar("Answer")
MAX_GROUP = 256
"""Weight of one transaction: a longer one would make the first wait for the last."""
MAX_WAITING = 4096
"""Items in memory; who comes then is told to come again."""
CLOSE_SECONDS = 60.0


class TooManyWaiting(Exception):
    """More wait for the writer than it may hold in memory; nothing was written."""


class WriterClosed(Exception):
    """The process is stopping; nothing was written."""


@dataclass(frozen=True)
class _Waiting(Generic[Item, Answer]):
    item: Item
    future: "asyncio.Future[Answer]"
    loop: asyncio.AbstractEventLoop


class GroupCommit(Generic[Item, Answer]):
    """Writes items in groups. `write(session, items)` returns one answer per item; an exception as answer is raised to its owner.

    `weigh(item)`: how much of a transaction it fills, where `MAX_GROUP` is full.
    If `write` itself raises, the group is rolled back and its items are tried one by one, so that a bad one fails alone.
    """

    def __init__(
        self,
        database: Database,
        write: Callable[[Session, Sequence[Item]], Sequence[Answer | Exception]],
        weigh: Callable[[Item], int] = lambda item: 1,
    ) -> None:
        self._database, self._write, self._weigh = database, write, weigh
        self._waiting: queue.Queue[_Waiting[Item, Answer] | None] = queue.Queue(MAX_WAITING)
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._lock = threading.Lock()

    async def commit(self, item: Item) -> Answer:
        """Return the item's answer once its transaction is committed. Raises what `write` answered or raised for it,
        `TooManyWaiting`, or `WriterClosed`."""
        loop = asyncio.get_running_loop()
        waiting: _Waiting[Item, Answer] = _Waiting(item, loop.create_future(), loop)
        with self._lock:
            if self._is_closed:
                raise WriterClosed("This process is stopping; send the request again")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="group commit", daemon=True)
                self._thread.start()
            try:
                self._waiting.put_nowait(waiting)
            except queue.Full:
                raise TooManyWaiting(f"{MAX_WAITING} requests wait to be written; try again shortly") from None
        return await waiting.future

    def close(self) -> None:
        """Write what waits, then stop. Nothing is accepted from now on."""
        with self._lock:
            self._is_closed = True
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while (group := self._take()) is not None:
            _resolve(group, self._write_group([each.item for each in group]))

    def _take(self) -> list[_Waiting[Item, Answer]] | None:
        first = self._waiting.get()
        if first is None:
            return None
        group, weight = [first], self._weigh(first.item)
        while weight < MAX_GROUP:
            try:
                following = self._waiting.get_nowait()
            except queue.Empty:
                break
            if following is None:
                self._waiting.put(None)  # seen again when this group is written; nothing comes after it
                break
            group.append(following)
            weight += self._weigh(following.item)
        return group

    def _write_group(self, items: Sequence[Item]) -> Sequence[Answer | Exception]:
        try:
            with self._database.write() as session:
                answers = self._write(session, items)
            assert len(answers) == len(items)
            return answers
        except Exception as error:
            if len(items) == 1 or isinstance(error, DatabaseAway):
                return [error] * len(items)
            return [self._write_group([item])[0] for item in items]


def _resolve(group: Sequence[_Waiting[Item, Answer]], answers: Sequence[Answer | Exception]) -> None:
    """Hand out the answers with one wake-up per event loop."""
    for loop in {each.loop for each in group}:
        pairs = [(each.future, answer) for each, answer in zip(group, answers, strict=True) if each.loop is loop]
        try:
            loop.call_soon_threadsafe(_set_all, pairs)
        except RuntimeError:  # the loop is closed: nobody waits any more
            continue


def _set_all(pairs: "Sequence[tuple[asyncio.Future[Answer], Answer | Exception]]") -> None:
    for future, answer in pairs:
        if future.done():  # who asked has gone away
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
