"""Messages built beforehand are what Celery would have sent, and a real worker takes them."""

import asyncio
import base64
import json
import time
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from pydantic import SecretStr
from redis import Redis
from servers import Valkey, free_port

from modelyard.kit.messages import BackgroundSender, Letter, send_all
from modelyard.kit.queue import make_app, send
from modelyard.kit.settings import Settings

TASK = "modelyard.run"
ARGUMENT = {"v": 1, "job_id": "job_\"quoted'", "attempt": 1}
PER_MESSAGE = {
    "id",
    "root_id",
    "correlation_id",
    "reply_to",
    "delivery_tag",
    "pid",
    "clock",
    "timestamp",
    "uuid",
}
"""What differs from message to message, or says who sent it."""


@pytest.fixture
def served(settings: Settings, valkey: Valkey) -> Settings:
    """Settings whose broker answers."""
    return settings.model_copy(update={"redis_url": SecretStr(valkey.url)})


def both(redis: "Redis", settings: Settings) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Two messages and their events: Celery's own first, then ours."""
    with redis.pubsub() as listening:
        listening.psubscribe("*celeryev*")
        assert listening.get_message(timeout=5) is not None
        send(make_app(settings), TASK, "finetune.2gpu", ARGUMENT)
        send_all(redis, TASK, [Letter("finetune.2gpu", ARGUMENT)])
        events = [listening.get_message(timeout=5) for _ in range(2)]
    messages = [json.loads(each) for each in reversed(redis.lrange("finetune.2gpu", 0, -1))]
    assert events[0]["channel"] == events[1]["channel"]
    return messages, [json.loads(each["data"]) for each in events]


def without_ids(value: Any) -> Any:
    """The same without what differs from message to message; bodies opened."""
    if not isinstance(value, dict):
        return value
    kept = {key: without_ids(each) for key, each in value.items() if key not in PER_MESSAGE}
    return {**kept, "body": without_ids(json.loads(base64.b64decode(value["body"])))} if "body" in value else kept


class TestContract:
    def test_the_same_message_as_celery(self, served: Settings, valkey: Valkey) -> None:
        (theirs, ours), _ = both(valkey.ask(), served)
        theirs["headers"]["ignore_result"] = True  # what the app's setting amounts to
        assert without_ids(ours) == without_ids(theirs)
        assert set(ours["headers"]) == set(theirs["headers"])
        assert set(ours["properties"]) == set(theirs["properties"])
        assert ours["headers"]["id"] == ours["headers"]["root_id"] == ours["properties"]["correlation_id"]

    def test_the_same_event_as_celery(self, served: Settings, valkey: Valkey) -> None:
        _, (theirs, ours) = both(valkey.ask(), served)
        assert {**without_ids(ours), "body": None} == {**without_ids(theirs), "body": None}
        opened = [json.loads(base64.b64decode(each["body"])) for each in (theirs, ours)]
        assert set(opened[0]) == set(opened[1])
        assert without_ids(opened[0]) | {"utcoffset": 0} == without_ids(opened[1])
        assert abs(opened[0]["timestamp"] - opened[1]["timestamp"]) < 60

    def test_a_real_worker_takes_them(self, served: Settings, valkey: Valkey) -> None:
        app, taken = make_app(served), []

        @app.task(name=TASK)
        def run(ticket: dict[str, Any]) -> None:
            taken.append(ticket)

        letters = [Letter("finetune.2gpu", {**ARGUMENT, "attempt": number}) for number in range(3)]
        self.work(app, valkey.ask(), letters, taken)
        assert taken == [letter.argument for letter in letters]
        assert valkey.ask().hlen("unacked") == 0

    @staticmethod
    def work(app: Celery, redis: "Redis", letters: list[Letter], taken: list[Any]) -> None:
        with start_worker(app, pool="solo", perform_ping_check=False, queues="finetune.2gpu", shutdown_timeout=30):
            send_all(redis, TASK, letters)
            deadline = time.monotonic() + 30
            while len(taken) < len(letters) and time.monotonic() < deadline:
                time.sleep(0.01)

    def test_flower_sees_the_waiting_line_and_the_task(self, served: Settings, valkey: Valkey) -> None:
        from celery.events.state import State

        _, (_, ours) = both(valkey.ask(), served)
        body = json.loads(base64.b64decode(ours["body"]))
        state = State()
        state.event({**body, "local_received": body["timestamp"]})
        task = state.tasks[body["uuid"]]
        assert (task.state, task.name, task.routing_key) == ("PENDING", TASK, "finetune.2gpu")
        assert "job_id" in task.args
        assert valkey.ask().llen("finetune.2gpu") == 2


class TestBackgroundSender:
    def test_sends_in_order(self, served: Settings, valkey: Valkey) -> None:
        sender = BackgroundSender(served, TASK)
        for number in range(1200):
            sender.send([Letter("finetune", {"v": 1, "job_id": f"job_{number}", "attempt": 1})])
        sender.close()
        bodies = [json.loads(base64.b64decode(json.loads(each)["body"])) for each in valkey.ask().lrange("finetune", 0, -1)]
        # What Redis was too slow for is dropped, as the log says; the scheduler rings for it.
        numbers = [int(body[0][0]["job_id"].removeprefix("job_")) for body in reversed(bodies)]
        assert numbers == sorted(numbers)
        assert len(numbers) >= 1000

    def test_what_comes_in_one_turn_of_a_loop_goes_together(self, served: Settings, valkey: Valkey) -> None:
        async def ring(numbers: range) -> None:
            for number in numbers:
                sender.send_together([Letter("finetune", {"v": 1, "job_id": f"job_{number}", "attempt": 1})])
                assert valkey.ask().llen("finetune") == numbers.start
            await asyncio.sleep(0)  # the turn is over

        sender = BackgroundSender(served, TASK)
        valkey.ask().config_resetstat()
        asyncio.run(ring(range(16)))
        sender.close()
        sender = BackgroundSender(served, TASK)
        asyncio.run(ring(range(16, 20)))  # another loop
        sender.close()
        assert valkey.ask().llen("finetune") == 20
        assert valkey.ask().info("commandstats")["cmdstat_lpush"]["calls"] == 2

    @pytest.mark.parametrize("is_frozen", [True, False])
    def test_never_keeps_anybody_waiting(self, served: Settings, valkey: Valkey, is_frozen: bool) -> None:
        if is_frozen:
            valkey.freeze()
            settings = served
        else:
            settings = served.model_copy(update={"redis_url": SecretStr(f"redis://127.0.0.1:{free_port()}/0")})
        sender = BackgroundSender(settings, TASK)
        started = time.monotonic()
        for _ in range(2000):
            sender.send([Letter("finetune", ARGUMENT)])
        assert time.monotonic() - started < 10  # waiting for each would take a quarter of an hour

    def test_goes_on_when_redis_is_back(self, served: Settings, valkey: Valkey) -> None:
        sender = BackgroundSender(served, TASK)
        valkey.freeze()
        sender.send([Letter("finetune", ARGUMENT)])
        time.sleep(served.broker_timeout_seconds + 0.2)
        valkey.thaw()
        sender.send([Letter("pretrain", ARGUMENT)])
        sender.close()
        assert valkey.ask().llen("pretrain") == 1
