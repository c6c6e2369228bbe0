"""The relay rings again for waiting jobs whose tickets were lost, and never more than that."""

import pytest
from factories import Factory
from pydantic import SecretStr
from redis.exceptions import RedisError
from servers import Valkey

from modelyard.domain.jobs.tickets import TASK, write_letter
from modelyard.kit.broker import Broker
from modelyard.kit.database import Database
from modelyard.kit.settings import Settings
from modelyard.scheduler.relay import Relay, decide_rings, find_missing


class TestDecide:
    @pytest.mark.parametrize(
        ("waiting", "tickets", "missing_before", "rings"),
        [
            ({}, {}, {}, {}),
            ({"a": 2}, {"a": 2}, {"a": 2}, {}),
            ({"a": 2}, {"a": 5}, {"a": 2}, {}),
            ({"a": 2}, {"a": 0}, {}, {}),  # maybe just submitted: the API rings itself
            ({"a": 2}, {"a": 0}, {"a": 2}, {"a": 2}),
            ({"a": 3}, {"a": 0}, {"a": 1}, {"a": 1}),
            ({"a": 3}, {"a": 2}, {"a": 9}, {"a": 1}),
            ({"a": 1, "b": 1}, {"b": 0}, {"a": 1}, {"a": 1}),
            ({"b": 1}, {}, {"a": 1}, {}),
        ],
    )
    def test_table(
        self, waiting: dict[str, int], tickets: dict[str, int], missing_before: dict[str, int], rings: dict[str, int]
    ) -> None:
        assert decide_rings(waiting, tickets, missing_before) == rings

    def test_missing(self) -> None:
        assert find_missing({"a": 3, "b": 1, "c": 2}, {"a": 1, "b": 1, "c": 5}) == {"a": 2}


class TestRing:
    def test_again_after_everything_in_redis_is_lost(self, factory: Factory, settings: Settings, valkey: Valkey) -> None:
        relay, broker = make_relay(factory.database, settings, valkey)
        jobs = [factory.job() for _ in range(3)]
        queue = jobs[0].queue
        broker.send(TASK, [write_letter(job.queue, job.id, job.attempt) for job in jobs])
        relay.tick()
        relay.tick()
        assert broker.count_tickets([queue]) == {queue: 3}
        valkey.ask().flushall()
        relay.tick()
        assert broker.count_tickets([queue]) == {queue: 0}
        relay.tick()
        assert broker.count_tickets([queue]) == {queue: 3}
        relay.tick()
        relay.tick()
        assert broker.count_tickets([queue]) == {queue: 3}

    def test_not_for_jobs_that_may_not_start_yet(self, factory: Factory, settings: Settings, valkey: Valkey) -> None:
        relay, broker = make_relay(factory.database, settings, valkey)
        job = factory.job()
        factory.update(job, not_before=factory.database.now() + 600)
        relay.tick()
        relay.tick()
        assert broker.count_tickets([job.queue]) == {job.queue: 0}

    def test_after_the_broker_came_back(self, factory: Factory, settings: Settings, valkey: Valkey) -> None:
        relay, broker = make_relay(factory.database, settings, valkey)
        job = factory.job()
        relay.tick()
        valkey.kill()
        with pytest.raises((RedisError, OSError)):
            relay.tick()
        valkey.start()
        relay.tick()
        assert broker.count_tickets([job.queue]) == {job.queue: 1}


def make_relay(database: Database, settings: Settings, valkey: Valkey) -> tuple[Relay, Broker]:
    """A relay and a look at what it rang."""
    served = with_broker(settings, valkey)
    return Relay(database, Broker(served)), Broker(served)


def with_broker(settings: Settings, valkey: Valkey) -> Settings:
    """The settings with a broker that answers."""
    return settings.model_copy(update={"redis_url": SecretStr(valkey.url)})
