"""Celery messages built beforehand: per queue everything but the ids is made once, and many are sent in one round trip.

What Celery 5.7 and kombu's Redis transport would send for `send_task`, task message protocol 2
(docs.celeryq.dev/en/stable/internals/protocol.html), with the `task-sent` event Flower shows waiting tasks by.
"""

import base64
import json
import queue
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from celery.utils.nodenames import anon_nodename
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
_ID, _BODY, _ARGUMENTS = "@id@", "@body@", "@arguments@"
_EVENT_TOPIC = "/{database}.celeryev/task.sent"
log = get_logger(__name__)


class Letter(NamedTuple):
    """A message to send: the queue and the one argument of the task."""

    queue: str
    argument: dict[str, Any]


@lru_cache(maxsize=1024)
def _form(task: str, queue: str) -> list[str]:
    """A message of a queue, cut where the ids, the arguments' text and the body go."""
    headers = {
        "lang": "py", "task": task, "id": _ID, "shadow": None, "eta": None, "expires": None, "group": None, "group_index": None,
        "retries": 0, "timelimit": [None, None], "root_id": _ID, "parent_id": None, "argsrepr": _ARGUMENTS, "kwargsrepr": "{}",
        "origin": anon_nodename(), "ignore_result": True, "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {},
    }  # fmt: skip
    properties = {
        "correlation_id": _ID, "reply_to": _ID, "delivery_mode": 2, "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": 0, "body_encoding": "base64", "delivery_tag": _ID,
    }  # fmt: skip
    return _cut(_envelope(_BODY, headers, properties))


@lru_cache(maxsize=1024)
def _event_form(task: str, queue: str) -> list[str]:
    """The body of a `task-sent` event, cut likewise; the body's place holds the time."""
    event = {
        "hostname": anon_nodename(), "utcoffset": 0, "pid": 0, "clock": 0, "uuid": _ID, "root_id": _ID, "parent_id": None,
        "name": task, "args": _ARGUMENTS, "kwargs": "{}", "retries": 0, "eta": None, "expires": None, "queue": queue,
        "exchange": "", "routing_key": queue, "type": "task-sent", "timestamp": _BODY,
    }  # fmt: skip
    return _cut(json.dumps(event).replace(f'"{_BODY}"', _BODY))


@lru_cache(maxsize=1)
def _event_envelope() -> list[str]:
    properties = {
        "delivery_mode": 1, "delivery_info": {"exchange": "celeryev", "routing_key": "task.sent"}, "priority": 0,
        "body_encoding": "base64", "delivery_tag": _ID,
    }  # fmt: skip
    return _cut(_envelope(_BODY, {"hostname": anon_nodename()}, properties))


def _envelope(body: str, headers: dict[str, Any], properties: dict[str, Any]) -> str:
    content = {"content-encoding": "utf-8", "content-type": "application/json"}
    return json.dumps({"body": body, **content, "headers": headers, "properties": properties})


def _cut(text: str) -> list[str]:
    for mark in (_ID, _BODY, _ARGUMENTS):
        text = text.replace(mark, f"\0{mark}\0")
    return text.split("\0")


def _fill(form: list[str], id_: str, body: str, arguments: str = "") -> str:
    values = {_ID: id_, _BODY: body, _ARGUMENTS: arguments}
    return "".join([values.get(part, part) for part in form])


def build_message(task: str, letter: Letter, id_: str) -> str:
    """The message as it lies in the queue's Redis list."""
    arguments = json.dumps([letter.argument])
    body = f'[{arguments}, {{}}, {{"callbacks": null, "errbacks": null, "chain": null, "chord": null}}]'
    return _fill(_form(task, letter.queue), id_, _base64(body), _quoted(letter.argument))


def build_event(task: str, letter: Letter, id_: str, now: float) -> str:
    """The `task-sent` event of a message, as it is published."""
    event = _fill(_event_form(task, letter.queue), id_, repr(now), _quoted(letter.argument))
    return _fill(_event_envelope(), id_, _base64(event))


def _quoted(argument: dict[str, Any]) -> str:
    return json.dumps(repr([argument]))[1:-1]


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def send_all(redis: Redis, task: str, letters: Sequence[Letter], with_events: bool = True) -> None:
    """Send messages, many a round trip. Raises a broker error within the client's time-out."""
    topic = _EVENT_TOPIC.format(database=redis.connection_pool.connection_kwargs.get("db", 0))
    now = time.time()
    for start in range(0, len(letters), MAX_PIPELINE):
        with redis.pipeline(transaction=False) as pipeline:
            for letter in letters[start : start + MAX_PIPELINE]:
                id_ = str(uuid.uuid4())
                pipeline.lpush(letter.queue, build_message(task, letter, id_))
                if with_events:
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

    def close(self) -> None:
        """Send what waits, then stop; a Redis that does not answer is not waited for."""
        if self._thread is not None and self._thread.is_alive():
            try:
                self._waiting.put_nowait(None)
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
