"""Liveness without a key for probes; details with a key."""

from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy.exc import SQLAlchemyError

from modelyard.api.dependencies import Platform, PlatformDep, Reader
from modelyard.domain.migrations import is_current
from modelyard.domain.workers.repository import list_online
from modelyard.kit.broker import BrokerErrors

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def is_alive() -> dict[str, str]:
    """The process answers. Says nothing else, so it needs no key."""
    return {"status": "ok"}


@router.get("/v1/health")
def get_health(platform: PlatformDep, caller: Reader, response: Response) -> dict[str, Any]:
    """Each part: `ok`, or what is wrong and the way out. 503 if the database does not answer."""
    database, broker = _check_database(platform), _check_broker(platform)
    workers = _count_workers(platform) if database == "ok" else None
    if database != "ok":
        response.status_code = 503
    status = "ok" if (database, broker) == ("ok", "ok") and workers else "degraded"
    return {"status": status, "database": database, "broker": broker, "workers_online": workers}


def _check_database(platform: Platform) -> str:
    try:
        return "ok" if is_current(platform.database) else "the schema is old: run `modelyard migrate`"
    except SQLAlchemyError as error:
        return f"does not answer ({type(error).__name__}): check MODELYARD_DATABASE_URL"


def _check_broker(platform: Platform) -> str:
    try:
        platform.broker.describe()
        return "ok"
    except BrokerErrors as error:
        return f"does not answer ({error}): check MODELYARD_REDIS_URL; jobs are accepted and wait in the database"


def _count_workers(platform: Platform) -> int:
    with platform.database.read() as session:
        return len(list_online(session))
