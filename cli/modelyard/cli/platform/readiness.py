"""Ask each program of a platform whether it answers."""

import socket
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


def has_scheduler(database_url: str, pid: int) -> bool:
    """Whether the scheduler process with this pid has the lead, or stands by for one on another machine."""
    from sqlalchemy.exc import SQLAlchemyError

    from modelyard.domain.workers.repository import find_leader
    from modelyard.kit.database import Database

    database = Database(database_url)
    try:
        with database.read() as session:
            holder = find_leader(session, "scheduler")
    except SQLAlchemyError:
        return False
    finally:
        database.dispose()
    host = socket.gethostname()
    # On this machine a lease of another pid is that of an earlier life, which runs out soon.
    return holder is not None and (holder == f"{host}:{pid}" or not holder.startswith(f"{host}:"))


def _ask(url: str, key: str, path: str) -> dict[str, Any]:
    try:
        with Client(url, key) as client:
            answer: dict[str, Any] = client.get(path)
            return answer
    except CommandError:
        return {}
