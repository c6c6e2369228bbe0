"""Tickets of gangs: they start nothing, the scheduler does; the worker of node 0 takes one so that Flower shows what runs.

A worker consumes the queues of gangs of its stages, so that Flower lists them, but fetches a ticket only while it leads a
gang that has none. A gang whose ticket was lost runs all the same.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from celery import Celery
from kombu.exceptions import OperationalError

from modelyard.domain.jobs.gangs import list_gang_queues
from modelyard.domain.jobs.queues import parse_queue
from modelyard.domain.jobs.tables import Job
from modelyard.kit.broker import BrokerErrors
from modelyard.kit.logs import get_logger
from modelyard.workers.engine.attempts import Engine

log = get_logger(__name__)


@dataclass
class Led:
    """A gang this worker leads."""

    job: Job
    has_ticket: bool = False
    is_over: threading.Event = field(default_factory=threading.Event)


@dataclass
class GangTickets:
    """The gangs this worker leads, and the queues it consumes because of gangs."""

    app: Celery
    engine: Engine
    stages: list[str]
    _led: list[Led] = field(default_factory=list)
    _consumed: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wants(self, queue: str) -> bool:
        """Whether a ticket of a gang's queue belongs to a gang this worker leads."""
        with self._lock:
            return any(led.job.queue == queue and not led.has_ticket for led in self._led)

    @contextmanager
    def lead(self, job: Job) -> Iterator[None]:
        """Take a ticket for a gang while it runs."""
        self.consume(job.queue)
        led = Led(job)
        with self._lock:
            self._led.append(led)
        try:
            yield
        finally:
            with self._lock:
                self._led.remove(led)
            led.is_over.set()

    def answer(self, queue: str, ticket_id: str, tell: Callable[[Job], None]) -> bool:
        """Let a ticket stand for a gang this worker leads, until it is over; one that nobody here needs is dropped."""
        with self._lock:
            led = next((each for each in self._led if each.job.queue == queue and not each.has_ticket), None)
            if led is not None:
                led.has_ticket = True
        self.engine.capacity.settle(ticket_id)
        if led is not None:
            self.engine.tell(tell, led.job)
            led.is_over.wait()
        return True

    def look(self) -> None:
        """Consume the queues where gangs of this worker's stages wait."""
        with self.engine.database.read() as session:
            queues = list_gang_queues(session)
        for queue in queues:
            if parse_queue(queue)[0] in self.stages:
                self.consume(queue)

    def consume(self, queue: str) -> None:
        """Name a queue among those this worker serves; what it fetches is another question."""
        if queue in self._consumed:
            return
        try:
            self.app.control.add_consumer(queue, destination=[self.engine.worker_id], reply=False)
            self._consumed.add(queue)
        except (OperationalError, *BrokerErrors) as error:
            log.warning("Flower was not told of a queue", queue=queue, error=str(error))
