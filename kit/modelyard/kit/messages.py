"""Celery messages built beforehand: per queue everything but the ids is made once, and many are sent in one round trip.

What Celery 5.7 and kombu's Redis transport would send for `send_task`, task message protocol 2
(docs.celeryq.dev/en/stable/internals/protocol.html), with the `task-sent` event Flower shows waiting tasks by.
"""

import asyncio
import base64
import json
import os
import queue
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple

from pydantic_core import to_json
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from modelyard.kit.logs import get_logger
from modelyard.kit.settings import Settings

MAX_PIPELINE = 500
"""Messages in one round trip."""
MAX_WAITING = 1000
"""Calls of `send` that wait for Redis; further ones are dropped."""
CLOSE_SECONDS = 5.0
_HOLE, _NUMBER = "@text@", "@number@"
_EVENT_TOPIC = "/{database}.celeryev/task.sent"
log = get_logger(__name__)


class Letter(NamedTuple):
    """A message to send: the queue and the one argument of the task."""

    queue: str
    argument: dict[str, Any]


def anon_nodename() -> str:
    """What Celery calls a process that is no worker: `celery.utils.anon_nodename`, without importing Celery and kombu."""
    return f"gen{os.getpid()}@{socket.gethostname()}"


@lru_cache(maxsize=1024)
def _form(task: str, queue: str) -> str:
    """A message of a queue; `%` fills in body, id, id, the arguments' text, id, id, id."""
    headers: dict[str, Any] = {
        "lang": "py", "task": task, "id": _HOLE, "shadow": None, "eta": None, "expires": None, "group": None, "group_index": None,
        "retries": 0, "timelimit": [None, None], "root_id": _HOLE, "parent_id": None, "argsrepr": _HOLE, "kwargsrepr": "{}",
        "origin": anon_nodename(), "ignore_result": True, "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {},
    }  # fmt: skip
    properties = {
        "correlation_id": _HOLE, "reply_to": _HOLE, "delivery_mode": 2, "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": 0, "body_encoding": "base64", "delivery_tag": _HOLE,
    }  # fmt: skip
    return _envelope(headers, properties)


@lru_cache(maxsize=1024)
def _event_form(task: str, queue: str) -> str:
    """The body of a `task-sent` event; `%` fills in id, id, the arguments' text, the time."""
    event = {
        "hostname": anon_nodename(), "utcoffset": 0, "pid": 0, "clock": 0, "uuid": _HOLE, "root_id": _HOLE, "parent_id": None,
        "name": task, "args": _HOLE, "kwargs": "{}", "retries": 0, "eta": None, "expires": None, "queue": queue,
        "exchange": "", "routing_key": queue, "type": "task-sent", "timestamp": _NUMBER,
    }  # fmt: skip
    return _with_holes(event)


@lru_cache(maxsize=1)
def _event_envelope() -> str:
    """The message around an event; `%` fills in body, id."""
    properties = {
        "delivery_mode": 1, "delivery_info": {"exchange": "celeryev", "routing_key": "task.sent"}, "priority": 0,
        "body_encoding": "base64", "delivery_tag": _HOLE,
    }  # fmt: skip
    return _envelope({"hostname": anon_nodename()}, properties)


def _envelope(headers: dict[str, Any], properties: dict[str, Any]) -> str:
    content = {"content-encoding": "utf-8", "content-type": "application/json"}
    return _with_holes({"body": _HOLE, **content, "headers": headers, "properties": properties})


def _with_holes(document: dict[str, Any]) -> str:
    text = json.dumps(document).replace("%", "%%")
    return text.replace(f'"{_NUMBER}"', "%s").replace(_HOLE, "%s")


def build_message(task: str, letter: Letter, id_: str) -> str:
    """The message as it lies in the queue's Redis list."""
    arguments = to_json([letter.argument]).decode()  # a fifth of what json.dumps takes for a small document
    body = _base64(f'[{arguments}, {{}}, {{"callbacks": null, "errbacks": null, "chain": null, "chord": null}}]')
    return _form(task, letter.queue) % (body, id_, id_, _quoted(letter.argument), id_, id_, id_)


def build_event(task: str, letter: Letter, id_: str, now: float) -> str:
    """The `task-sent` event of a message, as it is published."""
    event = _event_form(task, letter.queue) % (id_, id_, _quoted(letter.argument), now)
    return _event_envelope() % (_base64(event), id_)


def _quoted(argument: dict[str, Any]) -> str:
    return encode_basestring_ascii(repr([argument]))[1:-1]


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def send_all(redis: Redis, task: str, letters: Sequence[Letter]) -> None:
    """Send messages, many a round trip. Raises a broker error within the client's time-out."""
    for start in range(0, len(letters), MAX_PIPELINE):
        _send_part(redis, task, letters[start : start + MAX_PIPELINE])


def _send_part(redis: Redis, task: str, letters: Sequence[Letter]) -> None:
    stem, now = str(uuid.uuid4())[:24], time.time()
    ids = [f"{stem}{number:012x}" for number in range(len(letters))]
    messages: dict[str, list[str]] = {}
    for letter, id_ in zip(letters, ids, strict=True):
        messages.setdefault(letter.queue, []).append(build_message(task, letter, id_))
    has_listeners = bool(redis.pubsub_numpat())  # Flower; each event costs as much as its message
    with redis.pipeline(transaction=False) as pipeline:
        for queue_, lines in messages.items():
            pipeline.lpush(queue_, *lines)
        if has_listeners:
            topic = _EVENT_TOPIC.format(database=redis.connection_pool.connection_kwargs.get("db", 0))
            for letter, id_ in zip(letters, ids, strict=True):
                pipeline.publish(topic, build_event(task, letter, id_, now))
        pipeline.execute()


class BackgroundSender:
    """Sends messages in a thread of its own: nobody waits for Redis. What cannot be sent is dropped, and said in the log."""

    def __init__(self, settings: Settings, task: str) -> None:
        timeout = settings.broker_timeout_seconds
        self._redis = Redis.from_url(
            settings.redis_url.get_secret_value(),
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )
        self._task = task
        self._waiting: queue.Queue[Sequence[Letter] | None] = queue.Queue(MAX_WAITING)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._gathered: dict[asyncio.AbstractEventLoop, list[Letter]] = {}
        """What came in this turn of an event loop."""

    def send(self, letters: Iterable[Letter]) -> None:
        """Take messages and return at once."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="messages", daemon=True)
                self._thread.start()
        try:
            self._waiting.put_nowait(list(letters))
        except queue.Full:
            log.warning("no message sent; Redis is too far behind")

    def send_together(self, letters: Iterable[Letter]) -> None:
        """As `send`, from an event loop: what comes in one turn of it is handed over at once, and wakes the thread once."""
        loop = asyncio.get_running_loop()
        if loop not in self._gathered:
            self._gathered[loop] = []
            loop.call_soon(self._hand_over, loop)
        self._gathered[loop].extend(letters)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        self.send(self._gathered.pop(loop))

    def close(self) -> None:
        """Send what waits, then stop; a Redis that does not answer is not waited for."""
        if self._thread is not None and self._thread.is_alive():
            try:
                self._waiting.put(None, timeout=CLOSE_SECONDS)
            except queue.Full:
                return
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while (letters := self._waiting.get()) is not None:
            gathered, is_last = self._gather(list(letters))
            try:
                send_all(self._redis, self._task, gathered)
            except (RedisError, OSError) as error:
                log.warning("no message sent", messages=len(gathered), error=f"{type(error).__name__}: {error}")
            if is_last:
                return

    def _gather(self, letters: list[Letter]) -> tuple[list[Letter], bool]:
        while len(letters) < MAX_PIPELINE:
            try:
                more = self._waiting.get_nowait()
            except queue.Empty:
                break
            if more is None:
                return letters, True
            letters.extend(more)
        return letters, False
