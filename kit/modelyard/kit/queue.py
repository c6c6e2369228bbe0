"""The queue: a Celery app on Redis whose messages are doorbells, and a channel that can be told which queues to listen to.

Publishing never takes longer than a set time-out, whatever state Redis is in. Nothing is kept in Redis that matters.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from celery import Celery
from kombu import Queue
from kombu.exceptions import OperationalError
from kombu.transport import redis as redis_transport

from modelyard.kit.settings import Settings, get_settings


class GatedChannel(redis_transport.Channel):  # type: ignore[misc]
    """Polls a queue only while `gate(queue)` says that the work it announces could start at once.

    Cancelling consumers would do the same but hide the queue from everyone who asks what this worker serves.
    """

    gate: Callable[[str], bool] | None = None

    @property
    def active_queues(self) -> list[str]:
        queues: list[str] = super().active_queues
        return queues if GatedChannel.gate is None else [queue for queue in queues if GatedChannel.gate(queue)]

    def _brpop_start(self, timeout: float | None = None) -> None:
        self._update_queue_cycle()
        super()._brpop_start(timeout)


class GatedTransport(redis_transport.Transport):  # type: ignore[misc]
    """kombu's Redis transport with the gated channel."""

    Channel = GatedChannel


def make_app(settings: Settings) -> Celery:
    """The Celery app every process of the platform shares."""
    # Without fixups: the one for Django imports the whole worker into every process.
    app = Celery("modelyard", broker=settings.redis_url.get_secret_value(), fixups=[])
    timeout = settings.broker_timeout_seconds
    app.conf.update(
        broker_transport_options={
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "max_retries": 0,  # else the first publish sleeps two seconds before it says that nobody answers
            "priority_steps": [0],  # one Redis list per queue: order is decided at the claim
            "queue_order_strategy": "round_robin",
        },
        broker_connection_timeout=timeout,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_pool_limit=20,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        result_backend=None,
        task_acks_late=False,
        task_create_missing_queues=True,
        task_send_sent_event=True,
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_send_task_events=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=True,
        timezone="UTC",
    )
    return app


def gate_queues(app: Celery, gate: Callable[[str], bool]) -> None:
    """Make this process listen to a queue only while `gate(queue)` holds. For workers: others need plain `redis://`."""
    GatedChannel.gate = gate
    app.conf.broker_transport = "modelyard.kit.queue:GatedTransport"


def declare_queues(app: Celery, names: Iterable[str]) -> None:
    """Name the queues there are, so that Flower lists also those nobody serves."""
    app.conf.task_queues = [Queue(name, routing_key=name) for name in names]


def send(app: Celery, task: str, queue: str, *arguments: Any) -> None:
    """Put one message into a queue. Raises one of `BrokerErrors` within the broker time-out."""
    try:
        app.send_task(task, args=list(arguments), queue=queue, routing_key=queue, retry=False)
    except OperationalError as error:  # kombu's own class, whatever went wrong below it
        raise ConnectionError(f"the broker does not answer: {error}") from error


def ensure_event_loop() -> None:
    """Flower's tornado wants a loop in the main thread, which Python ≥ 3.12 no longer makes by itself."""
    try:
        asyncio.get_event_loop()
    except RuntimeError:
        asyncio.set_event_loop(asyncio.new_event_loop())


def __getattr__(name: str) -> Celery:
    # `celery -A modelyard.kit.queue` and Flower look for `app`; building it on demand keeps imports free of settings.
    if name == "app":
        return make_app(get_settings())
    raise AttributeError(name)
