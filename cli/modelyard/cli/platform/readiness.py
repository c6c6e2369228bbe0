"""Ask each program of a platform whether it answers."""

from typing import Any

import httpx2

from modelyard.cli.client import Client
from modelyard.cli.errors import CommandError

TIMEOUT_SECONDS = 2.0


def answers_http(url: str) -> bool:
    """Whether a GET is answered with success."""
    try:
        return httpx2.get(url, timeout=TIMEOUT_SECONDS, trust_env=False).is_success
    except httpx2.HTTPError:
        return False


def answers_ping(redis_url: str) -> bool:
    """Whether the broker lets us in and answers PING."""
    from redis import Redis
    from redis.exceptions import RedisError

    try:
        with Redis.from_url(redis_url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS) as broker:
            return bool(broker.ping())
    except (RedisError, OSError):
        return False


def is_worker_online(url: str, key: str, pid: int) -> bool:
    """Whether the worker process with this pid has reported itself: a row of an earlier life does not count."""
    return any(worker["pid"] == pid and worker["state"] == "online" for worker in _ask(url, key, "/v1/workers").get("data", []))


def has_scheduler(url: str, key: str) -> bool:
    """Whether a scheduler has the lead."""
    return bool(_ask(url, key, "/v1/health").get("scheduler", {}).get("ok"))


def _ask(url: str, key: str, path: str) -> dict[str, Any]:
    try:
        with Client(url, key) as client:
            answer: dict[str, Any] = client.get(path)
            return answer
    except CommandError:
        return {}
