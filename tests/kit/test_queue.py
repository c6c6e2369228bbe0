"""The queue never makes anybody wait longer than the time-out, and polls only what it may."""

import time
from collections.abc import Iterator

import pytest
from kombu import Connection, Consumer, Queue
from pydantic import SecretStr
from servers import Valkey

from modelyard.kit.broker import Broker, BrokerErrors
from modelyard.kit.queue import GatedChannel, declare_queues, gate_queues, make_app, send
from modelyard.kit.settings import Settings

SLACK_SECONDS = 1.0
"""What a busy machine may add to a time-out."""


@pytest.fixture
def served(settings: Settings, valkey: Valkey) -> Settings:
    """Settings whose broker answers."""
    return settings.model_copy(update={"redis_url": SecretStr(valkey.url)})


@pytest.fixture
def gate() -> Iterator[set[str]]:
    """The queues this process may listen to; the gate is taken away again at the end."""
    allowed: set[str] = set()
    yield allowed
    GatedChannel.gate = None


class TestSend:
    def test_one_list_per_queue(self, served: Settings, valkey: Valkey) -> None:
        app, names = make_app(served), ["finetune", "finetune.2gpu"]
        for queue in (*names, "finetune"):
            send(app, "modelyard.run", queue, {"v": 1})
        assert Broker(served).count_tickets([*names, "pretrain"]) == {"finetune": 2, "finetune.2gpu": 1, "pretrain": 0}
        lists = {key.decode() for key in valkey.ask().scan_iter() if valkey.ask().type(key) == b"list"}
        assert lists == set(names)

    def test_a_dead_broker(self, settings: Settings) -> None:
        self.check_fails_fast(settings)

    def test_a_frozen_broker(self, served: Settings, valkey: Valkey) -> None:
        valkey.freeze()
        self.check_fails_fast(served)

    def test_a_broker_that_freezes_later(self, served: Settings, valkey: Valkey) -> None:
        app, broker = make_app(served), Broker(served)
        send(app, "modelyard.run", "finetune", {})
        broker.count_tickets(["finetune"])
        valkey.freeze()
        self.check_fails_fast(served, app, broker)
        valkey.thaw()
        send(app, "modelyard.run", "finetune", {})
        assert broker.count_tickets(["finetune"])["finetune"] >= 2

    @staticmethod
    def check_fails_fast(settings: Settings, app: object = None, broker: Broker | None = None) -> None:
        app, broker = app or make_app(settings), broker or Broker(settings)
        for act in (lambda: send(app, "modelyard.run", "finetune", {}), lambda: broker.count_tickets(["a"]), broker.describe):
            started = time.monotonic()
            with pytest.raises(BrokerErrors):
                act()
            assert time.monotonic() - started < settings.broker_timeout_seconds + SLACK_SECONDS


class TestDescribe:
    def test_names_server_version_and_policy(self, served: Settings) -> None:
        described = Broker(served).describe()
        assert described["server"] == "valkey"
        assert described["version"].split(".")[0].isdigit()
        assert described["maxmemory_policy"] == "noeviction"


class TestGate:
    def test_polls_only_allowed_queues(self, served: Settings, gate: set[str]) -> None:
        app = make_app(served)
        for queue in ("finetune", "pretrain"):
            send(app, "modelyard.run", queue, {"queue": queue})
        gate_queues(app, lambda queue: queue in gate)
        received: list[str] = []
        with app.connection_for_read() as connection:
            assert isinstance(connection.default_channel, GatedChannel)
            assert connection.default_channel.priority_steps == [0]  # else four lists per queue are polled
            gate.add("pretrain")
            self.consume(connection, received, until=1)
            assert received == ["pretrain"]
            gate.add("finetune")  # the same consumer, no new subscription
            self.consume(connection, received, until=2)
        assert received == ["pretrain", "finetune"]

    @staticmethod
    def consume(connection: Connection, received: list[str], until: int) -> None:
        queues = [Queue(name, routing_key=name) for name in ("finetune", "pretrain")]

        def take(body: list[list[dict[str, str]]], message: object) -> None:
            received.append(body[0][0]["queue"])
            message.ack()  # type: ignore[attr-defined]

        with Consumer(connection.default_channel, queues, callbacks=[take], accept=["json"], no_ack=False):
            while len(received) < until:
                connection.drain_events(timeout=10)

    def test_others_need_no_gate(self, served: Settings) -> None:
        assert make_app(served).conf.broker_transport != "modelyard.kit.queue:GatedTransport"


class TestDeclare:
    def test_names_each_queue_with_its_own_key(self, settings: Settings) -> None:
        app = make_app(settings)
        declare_queues(app, ["finetune", "finetune.2gpu"])
        assert {queue.name: queue.routing_key for queue in app.conf.task_queues} == {
            "finetune": "finetune",
            "finetune.2gpu": "finetune.2gpu",
        }
