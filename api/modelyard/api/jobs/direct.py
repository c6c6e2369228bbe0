"""A short cut for the two routes whose speed matters: of a submit's time, more than half went into FastAPI's routing and
dependency graph; of a batch's, a tenth into reading its jobs by way of plain objects.

It takes a request only where nothing about it is out of the ordinary; all others, with every mistake, go FastAPI's way, so
that both ways answer the same.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelyard.api.dependencies import MAX_KEY_CHARACTERS, Once, Platform, fingerprint_of
from modelyard.api.errors import answer_error
from modelyard.api.jobs.endpoints import create_job, create_jobs
from modelyard.api.jobs.schemas import BatchCreate
from modelyard.domain.errors import DomainError
from modelyard.domain.jobs.bodies import JobCreate

ROUTES: dict[str, tuple[type[BaseModel], Callable[..., Awaitable[Response]]]] = {
    "/v1/jobs": (JobCreate, create_job),
    "/v1/jobs/batch": (BatchCreate, create_jobs),
}
"""Path -> the body it takes and the endpoint's function."""
KEY_LENGTHS = range(1, MAX_KEY_CHARACTERS + 1)


class DirectSubmit:
    """Answers a plain `POST /v1/jobs` or `/v1/jobs/batch` itself, by the same function FastAPI would call."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take the short cut where it is open."""
        route = ROUTES.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if route is None or scope["query_string"]:
            return await self.app(scope, receive, send)
        request = Request(scope, receive)
        if not _is_plain(request.headers):
            return await self.app(scope, receive, send)
        content = b""
        try:
            arguments = await _recognise(request)
            if arguments is None:
                return await self.app(scope, receive, send)
            content = await request.body()
            model, create = route
            response = await create(body=model.model_validate_json(content), once=_once(request, content), **arguments)
        except (ValidationError, DomainError):  # refused, so nothing was made: the ordinary way says it properly
            return await self.app(scope, _replay(content, receive), send)
        except ClientDisconnect:
            return None
        except Exception as error:  # maybe it was made, so it is not tried again
            response = answer_error(request, error)
        return await response(scope, receive, send)


def _is_plain(headers: Headers) -> bool:
    return headers.get("content-type") == "application/json" and len(headers.get("idempotency-key", "-")) in KEY_LENGTHS


async def _recognise(request: Request) -> dict[str, Any] | None:
    """Platform and caller, if the key is one that may do this."""
    platform: Platform = request.app.state.platform
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    caller = await platform.callers.find(secret)
    return {"platform": platform, "caller": caller} if caller is not None and caller.may("write") else None


def _once(request: Request, content: bytes) -> Once:
    key = request.headers.get("idempotency-key")
    return Once(request.app.state.platform, key, fingerprint_of(request, content) if key is not None else "")


def _replay(content: bytes, receive: Receive) -> Receive:
    """Let the body be read once more."""
    pending: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again
