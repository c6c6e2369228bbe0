"""The door to model servers: OpenAI's chat completions, passed on to the deployment that answers, and recorded."""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
from fastapi import APIRouter, Body, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse

from modelyard.api.dependencies import Platform, PlatformDep, Reader
from modelyard.api.errors import ApiError
from modelyard.domain.deployments.repository import add_interaction, find_ready
from modelyard.domain.deployments.tables import Deployment
from modelyard.domain.projects.repository import Caller
from modelyard.kit.logs import get_logger

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 600.0
MAX_CONNECTIONS = 2000
"""Chats under way at once; httpx2 would stop at 100, and each chat holds its connection until the last token."""
POOL_SECONDS = 2.0
"""How long a chat waits for one of them to become free before it is told to come back later."""
CLIENT_LEFT = 499
"""Recorded as status when the client went away before the end (nginx's convention)."""
EXAMPLE = {"model": "quickstart", "messages": [{"role": "user", "content": "What is the capital of France?"}], "max_tokens": 32}
log = get_logger(__name__)
router = APIRouter(prefix="/v1", tags=["openai"])


def make_client(max_connections: int = MAX_CONNECTIONS) -> httpx2.AsyncClient:
    """The HTTP client for model servers; never through a proxy meant for the internet."""
    timeout = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS, pool=POOL_SECONDS)
    limits = httpx2.Limits(max_connections=max_connections, max_keepalive_connections=min(100, max_connections))
    return httpx2.AsyncClient(timeout=timeout, limits=limits, trust_env=False)


def _client_of(app: FastAPI) -> httpx2.AsyncClient:
    """The one client of an application, made for its first chat: it reads all certificates there are."""
    if not hasattr(app.state, "model_client"):
        app.state.model_client = make_client()
    client: httpx2.AsyncClient = app.state.model_client
    return client


async def close_client(app: FastAPI) -> None:
    """Let go of the connections to model servers, if there are any."""
    if hasattr(app.state, "model_client"):
        await app.state.model_client.aclose()
        del app.state.model_client


@dataclass
class Exchange:
    """One request and what is known of its answer so far. Times on the monotonic clock."""

    deployment: Deployment
    body: dict[str, Any]
    started: float = field(default_factory=time.monotonic)
    first_token_at: float | None = None
    answer: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    status: int = CLIENT_LEFT
    failed: bool = False
    """Whether the model server said, within the stream, that it could not go on."""

    def add_chunk(self, chunk: dict[str, Any]) -> None:
        """Take in one chunk of a stream."""
        self.usage = chunk.get("usage") or self.usage
        self.failed = self.failed or "error" in chunk
        for choice in chunk.get("choices", []):
            text = (choice.get("delta") or {}).get("content") or ""
            if text and self.first_token_at is None:
                self.first_token_at = time.monotonic()
            self.answer += text

    def end(self) -> None:
        """The model server has said all it had to say."""
        self.status = 502 if self.failed else 200

    def as_row(self) -> dict[str, Any]:
        """What is recorded."""
        first = self.first_token_at
        return {
            "deployment_id": self.deployment.id,
            "messages": self.body.get("messages", []),
            "answer": self.answer,
            "status": self.status,
            "streamed": bool(self.body.get("stream")),
            "latency_seconds": time.monotonic() - self.started,
            "time_to_first_token_seconds": None if first is None else first - self.started,
            "prompt_tokens": self.usage.get("prompt_tokens"),
            "completion_tokens": self.usage.get("completion_tokens"),
            "created_at": time.time(),
        }


@router.post("/chat/completions", response_model=None)
async def create_chat_completion(
    request: Request, platform: PlatformDep, caller: Reader, body: dict[str, Any] = Body(examples=[EXAMPLE])
) -> Response:
    """OpenAI's chat completions; `model` is the name of a deployment. `stream: true` streams."""
    deployment = await run_in_threadpool(_find, platform, caller, body)
    exchange = Exchange(deployment, body)
    client = _client_of(request.app)
    if body.get("stream"):
        return await _stream(platform, client, exchange)
    return await _answer(platform, client, exchange)


def _find(platform: Platform, caller: Caller, body: dict[str, Any]) -> Deployment:
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise ApiError(422, "invalid_request", "model: say which deployment should answer", field="model", value=name)
    if not name.isprintable():  # half a surrogate pair, NUL: no name has them, and no database would take them
        raise ApiError(422, "invalid_request", f"model: {name!r} is no name of a deployment", field="model", value=name)
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        raise ApiError(422, "invalid_request", "messages: a list with at least one message", field="messages")
    if not isinstance(body.get("stream_options") or {}, dict):
        raise ApiError(
            422, "invalid_request", 'stream_options: an object such as {"include_usage": true}', field="stream_options"
        )
    with platform.database.read() as session:
        deployment = find_ready(session, caller.project_id, name)
    if deployment is None:
        message = f"No deployment named {name!r} is ready; GET /v1/deployments lists them"
        raise ApiError(404, "model_not_found", message, field="model", value=name)
    return deployment


async def _answer(platform: Platform, client: httpx2.AsyncClient, exchange: Exchange) -> Response:
    try:
        answer = await client.send(_request(client, exchange, exchange.body))
    except httpx2.HTTPError as error:
        raise await _unreachable(platform, exchange, error) from error
    exchange.status = answer.status_code
    document = _parse(answer.content)
    if answer.status_code == 200:
        exchange.usage = document.get("usage") or {}
        exchange.answer = "".join(choice["message"].get("content") or "" for choice in document.get("choices", []))
    await run_in_threadpool(_record, platform, exchange)
    return JSONResponse(document, answer.status_code)


async def _stream(platform: Platform, client: httpx2.AsyncClient, exchange: Exchange) -> Response:
    # The usage is asked for in any case: monitoring counts tokens. Clients that did not ask are not sent it.
    wants_usage = bool((exchange.body.get("stream_options") or {}).get("include_usage"))
    upstream_body = {**exchange.body, "stream_options": {**(exchange.body.get("stream_options") or {}), "include_usage": True}}
    try:
        answer = await client.send(_request(client, exchange, upstream_body), stream=True)
    except httpx2.HTTPError as error:
        raise await _unreachable(platform, exchange, error) from error
    if answer.status_code != 200:
        exchange.status = answer.status_code
        document = _parse(await answer.aread())
        await answer.aclose()
        await run_in_threadpool(_record, platform, exchange)
        return JSONResponse(document, answer.status_code)
    chunks = _pass_on(platform, answer, exchange, wants_usage)
    return StreamingResponse(chunks, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _pass_on(platform: Platform, answer: httpx2.Response, exchange: Exchange, wants_usage: bool) -> AsyncIterator[bytes]:
    try:
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                exchange.end()  # now: clients hang up as soon as they have this line
            else:
                chunk = _parse(line.removeprefix("data: ").encode())
                exchange.add_chunk(chunk)
                if not chunk.get("choices") and "error" not in chunk and not wants_usage:
                    continue
            yield f"{line}\n\n".encode()
        exchange.end()
    except httpx2.HTTPError as error:
        exchange.status = 502
        log.warning("model server broke off", deployment=exchange.deployment.id, error=str(error))
        yield f"data: {json.dumps({'error': {'message': 'The model server broke off', 'type': 'server_error'}})}\n\n".encode()
    finally:
        # This also runs when the client is gone and the task is being cancelled, where any other wait would end at once.
        with anyio.CancelScope(shield=True):
            await answer.aclose()
            await run_in_threadpool(_record, platform, exchange)


def _request(client: httpx2.AsyncClient, exchange: Exchange, body: dict[str, Any]) -> httpx2.Request:
    headers = {"Authorization": f"Bearer {exchange.deployment.token}", "Content-Type": "application/json"}
    url = f"{exchange.deployment.url}/v1/chat/completions"
    return client.build_request("POST", url, content=json.dumps(body), headers=headers)


async def _unreachable(platform: Platform, exchange: Exchange, error: Exception) -> ApiError:
    is_full = isinstance(error, httpx2.PoolTimeout)
    exchange.status = 503 if is_full else 502
    await run_in_threadpool(_record, platform, exchange)
    if is_full:
        message = "Too many chats are under way at once; try again shortly"
        return ApiError(503, "too_many_chats", message, retry_after_seconds=2)
    log.warning("model server unreachable", deployment=exchange.deployment.id, error=str(error))
    message = f"The model server of {exchange.deployment.name!r} does not answer; it may be restarting, try again shortly"
    return ApiError(502, "model_unreachable", message, field="model", value=exchange.deployment.name)


def _parse(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    return (
        document if isinstance(document, dict) else {"error": {"message": "The model server answered something else than JSON"}}
    )


def _record(platform: Platform, exchange: Exchange) -> None:
    """Record an interaction if that is possible: a full disk must not cost the client its answer."""
    try:
        with platform.database.write() as session:
            add_interaction(session, **exchange.as_row())
    except Exception as error:
        # Only the names of the errors: their texts quote the row, and what people say to a model is not for the log.
        cause = type(getattr(error, "orig", None) or error).__name__
        log.error("interaction not recorded", deployment=exchange.deployment.id, error=type(error).__name__, cause=cause)
