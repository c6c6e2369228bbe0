"""The HTTP side of a deployment: OpenAI's chat and text completions for one model."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from modelyard.workers.serving import errors
from modelyard.workers.serving.answer import Answer
from modelyard.workers.serving.authorization import BearerToken
from modelyard.workers.serving.formats import DONE, ChatFormat, CompletionFormat, Format, event
from modelyard.workers.serving.requests import ChatRequest, CompletionRequest
from modelyard.workers.serving.service import Job, ModelService

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client who left before the answer; nobody reads it but the log."""


def build_application(service: ModelService, token: str) -> FastAPI:
    """Build the app. Documentation pages are left out: they would load scripts from elsewhere."""
    app = FastAPI(title=service.name, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(BearerToken, token=token)
    app.add_exception_handler(errors.RequestRefused, errors.answer_refused)
    app.add_exception_handler(errors.GenerationFailed, errors.answer_failed)
    app.add_exception_handler(Exception, errors.answer_crashed)
    app.add_exception_handler(RequestValidationError, errors.answer_invalid)
    app.add_exception_handler(HTTPException, errors.answer_http)

    @app.get("/health")
    async def health() -> Response:
        failure = service.engine.failure
        body = {"status": str(failure or "ok"), "requests_in_flight": service.engine.requests_in_flight}
        return JSONResponse(body, 503 if failure else 200)

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": [service.description]}

    @app.get("/v1/models/{model}")
    async def get_model(model: str) -> dict[str, Any]:
        service.require_name(model)
        return service.description

    @app.post("/v1/chat/completions")
    async def chat(body: ChatRequest, request: Request) -> Response:
        return await _answer(service, service.prepare_chat(body), ChatFormat(service.name), request)

    @app.post("/v1/completions")
    async def complete(body: CompletionRequest, request: Request) -> Response:
        return await _answer(service, service.prepare_completion(body), CompletionFormat(service.name), request)

    return app


async def _answer(service: ModelService, job: Job, form: Format, request: Request) -> Response:
    if job.stream:
        return StreamingResponse(_stream(service, job, form), media_type="text/event-stream")
    work = asyncio.create_task(_collect(service, job))
    if not await _is_done_before_leaving(work, request):
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    text, answer = work.result()
    return JSONResponse(form.whole(text, answer))


async def _collect(service: ModelService, job: Job) -> tuple[str, Answer]:
    answer = service.open_answer(job)
    async with aclosing(service.write(job, answer)) as pieces:
        return "".join([piece async for piece in pieces]), answer


async def _stream(service: ModelService, job: Job, form: Format) -> AsyncIterator[str]:
    answer = service.open_answer(job)
    try:
        async with aclosing(service.write(job, answer)) as pieces:
            async for piece in pieces:
                yield event(form.chunk(piece, None))
    except (errors.GenerationFailed, errors.RequestRefused) as error:
        # The status line is long gone: the official clients raise on an `error` member.
        yield event(errors.error_body(str(error), 500, "generation_failed"))
        return
    last = form.chunk("", answer.finish_reason)
    yield event(last if job.include_usage else {**last, "usage": answer.usage})
    if job.include_usage:
        yield event(form.usage_chunk(answer.usage))
    yield DONE


async def _is_done_before_leaving(work: "asyncio.Task[Any]", request: Request) -> bool:
    """Wait for the work, or stop it when the client goes away: nobody would read the answer."""
    leaving = asyncio.create_task(_wait_for_leaving(request))
    try:
        await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return work.done()
    finally:
        leaving.cancel()
        if not work.done():
            work.cancel()


async def _wait_for_leaving(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
