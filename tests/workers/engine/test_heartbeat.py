"""A worker's sign of life against a real database: what it writes, what it reads, and when."""

from collections.abc import Callable
from pathlib import Path

import pytest
from factories import Factory, write
from sqlmodel import Session

from modelyard.domain.workers.repository import end_drain, get_worker_or_raise, request_drain
from modelyard.domain.workers.reservations import reserve
from modelyard.domain.workers.tables import Worker
from modelyard.kit.memory import read_host_memory
from modelyard.kit.slots import SlotPool
from modelyard.workers.engine.capacity import Capacity
from modelyard.workers.engine.heartbeat import Heartbeat, describe_worker

NAME = "train@host"


@pytest.fixture
def capacity(tmp_path: Path) -> Capacity:
    return Capacity(SlotPool(tmp_path, "train", cpu_slots=2, gpus=(3,)))


@pytest.fixture
def heartbeat(factory: Factory, capacity: Capacity) -> Heartbeat:
    """Of a worker that has not beaten yet."""
    queues = ["pretrain", "pretrain.2slot"]
    return Heartbeat(factory.database, capacity, describe_worker(NAME, "host", ["pretrain"], queues))


class TestBeat:
    def test_says_what_it_lends(self, factory: Factory, heartbeat: Heartbeat) -> None:
        heartbeat.beat()
        row = factory.get(Worker, NAME)
        assert row.state == "online"
        assert row.slots["gpu"] == {"total": 1, "free": 1, "names": ["gpu-3"]}
        assert row.slots["cpu"] == {"total": 2, "free": 2, "names": ["cpu-0", "cpu-1"]}
        assert row.host_memory_bytes == read_host_memory()
        heartbeat.stop()
        assert factory.get(Worker, NAME).state == "offline"

    def test_one_that_was_drained_in_its_earlier_life_stays_so(
        self, factory: Factory, heartbeat: Heartbeat, capacity: Capacity
    ) -> None:
        factory.worker(NAME, drain_requested=True, state="offline")
        heartbeat.beat()
        assert not capacity.listens_to("pretrain")
        assert factory.get(Worker, NAME).drain_requested is True


class TestLook:
    def test_drained_and_back(self, factory: Factory, heartbeat: Heartbeat, capacity: Capacity) -> None:
        heartbeat.beat()
        assert capacity.listens_to("pretrain")
        self.decide(factory, request_drain)
        assert capacity.listens_to("pretrain"), "it has not looked yet"
        heartbeat.look()
        assert not capacity.listens_to("pretrain")
        self.decide(factory, end_drain)
        heartbeat.look()
        assert capacity.listens_to("pretrain")

    def test_leaves_alone_what_is_kept(self, factory: Factory, heartbeat: Heartbeat, capacity: Capacity) -> None:
        heartbeat.beat()
        factory.registered()
        wide = factory.job("pretrain", slots=2)
        write(factory.database, reserve, NAME, wide.id, "cpu", 2)
        heartbeat.look()
        assert not capacity.listens_to("pretrain.1cpu")
        assert capacity.listens_to(wide.queue)
        factory.claimed(wide)
        heartbeat.look()
        assert capacity.listens_to("pretrain.1cpu")

    def test_that_fails_leaves_the_last_one_in_force(self, factory: Factory, heartbeat: Heartbeat, capacity: Capacity) -> None:
        heartbeat.beat()
        self.decide(factory, request_drain)
        heartbeat.look()
        self.run(factory, "ALTER TABLE worker RENAME TO moved")
        try:
            heartbeat.look()
            assert not capacity.listens_to("pretrain")
        finally:
            self.run(factory, "ALTER TABLE moved RENAME TO worker")  # other tests use the same server

    @staticmethod
    def run(factory: Factory, statement: str) -> None:
        with factory.database.write() as session:
            session.connection().exec_driver_sql(statement)

    @staticmethod
    def decide(factory: Factory, action: Callable[[Session, Worker], None]) -> None:
        with factory.database.write() as session:
            action(session, get_worker_or_raise(session, NAME))
