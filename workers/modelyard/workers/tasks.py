"""The Celery entry: one task, which answers a ticket."""

from typing import Any

from celery import Celery

from modelyard.domain.jobs.queues import parse_queue
from modelyard.domain.jobs.tables import Job
from modelyard.domain.jobs.tickets import TASK, make_ticket
from modelyard.kit.queue import send
from modelyard.workers.engine.attempts import Engine
from modelyard.workers.engine.tickets import GangTickets


def register_tasks(app: Celery, engine: Engine, gangs: GangTickets) -> None:
    """Make this worker's engine answer the tickets of an app; those of gangs only stand for what the scheduler placed."""

    @app.task(name=TASK, bind=True, acks_late=False, ignore_result=True)
    def run(self: Any, ticket: dict[str, Any]) -> None:
        queue = self.request.delivery_info["routing_key"]

        def tell(job: Job) -> None:
            # A ticket only wakes a worker; this names the job that really runs, which is what Flower then shows.
            self.send_event("task-started", retry=False, args=repr([make_ticket(job.id, job.attempt)]), kwargs="{}")

        answer = gangs.answer if parse_queue(queue)[1].nodes > 1 else engine.answer
        if not answer(queue, self.request.id, tell):
            send(app, TASK, queue, ticket)
