"""What one asks Redis directly, without Celery: is it there, how many tickets wait, take these."""

from collections.abc import Iterable, Sequence
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from modelyard.kit.messages import Letter, send_all
from modelyard.kit.settings import Settings

BrokerErrors = (RedisError, OSError)


class Broker:
    """A client that waits for no answer longer than the broker time-out."""

    def __init__(self, settings: Settings) -> None:
        timeout = settings.broker_timeout_seconds
        url = settings.redis_url.get_secret_value()
        self._redis = Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout)

    def count_tickets(self, queues: Iterable[str]) -> dict[str, int]:
        """Messages waiting per queue. Raises one of `BrokerErrors`."""
        names = list(queues)
        if not names:
            self._redis.ping()  # no queue is no reason to call a broker well that is not there
        with self._redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.llen(name)
            return dict(zip(names, (int(length) for length in pipeline.execute()), strict=True))

    def list_queues(self, pattern: str) -> list[str]:
        """Queues with messages whose name fits a glob pattern. Raises one of `BrokerErrors`."""
        return sorted(name.decode() for name in self._redis.scan_iter(match=pattern, count=1000, _type="list"))

    def drop(self, queue: str, number: int) -> None:
        """Remove the oldest messages of a queue. Raises one of `BrokerErrors`."""
        self._redis.rpop(queue, number)

    def send(self, task: str, letters: Sequence[Letter]) -> None:
        """Put messages into their queues, many a round trip. Raises one of `BrokerErrors`."""
        send_all(self._redis, task, letters)

    def describe(self) -> dict[str, Any]:
        """Server name, version and memory policy. Raises one of `BrokerErrors`."""
        info: Any = self._redis.info("server")
        memory: Any = self._redis.info("memory")
        return {
            "server": str(info.get("server_name", "redis")),
            "version": str(info.get("valkey_version", info["redis_version"])),
            "maxmemory_policy": str(memory.get("maxmemory_policy", "unknown")),
        }
