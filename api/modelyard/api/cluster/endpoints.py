"""Routes that show queues."""

from fastapi import APIRouter
from pydantic import BaseModel

from modelyard.api.dependencies import PlatformDep, Reader
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.tallies import count_by_queue
from modelyard.domain.workers.repository import list_serving
from modelyard.kit.broker import BrokerErrors

router = APIRouter(prefix="/v1", tags=["cluster"])


class QueuePublic(BaseModel):
    """A queue: jobs that wait and run by the database, tickets by Redis, and who serves it."""

    name: str
    waiting: int
    running: int
    tickets: int | None
    """None while Redis does not answer."""
    workers: list[str]


class QueueList(BaseModel):
    """All queues in use."""

    data: list[QueuePublic]
    broker: str
    """`ok`, or why Redis does not answer."""


@router.get("/queues")
def list_queues(platform: PlatformDep, caller: Reader) -> QueueList:
    """Every queue that has jobs or a worker that takes them."""
    with platform.database.read() as session:
        counts = count_by_queue(session)
        online = list_serving(session)
    names = sorted({*counts, *(stage for worker in online for stage in worker.stages)})
    try:
        tickets: dict[str, int] = platform.broker.count_tickets(names)
        broker = "ok"
    except BrokerErrors as error:
        tickets, broker = {}, f"Redis does not answer: {error}; jobs wait safely in the database"
    queues = [
        QueuePublic(
            name=name,
            waiting=counts.get(name, {}).get(JobState.QUEUED, 0),
            running=sum(number for state, number in counts.get(name, {}).items() if state != JobState.QUEUED),
            tickets=tickets.get(name),
            workers=[worker.id for worker in online if name in worker.queues],
        )
        for name in names
    ]
    return QueueList(data=queues, broker=broker)
