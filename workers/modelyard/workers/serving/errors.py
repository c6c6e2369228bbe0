"""What the server answers when it cannot answer: OpenAI's error object."""

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException


class RequestRefused(Exception):
    """A request that cannot be served, with the HTTP status and the fields of OpenAI's error object."""

    def __init__(self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


class GenerationFailed(Exception):
    """The engine gave up on one request; others may be well."""


def error_body(message: str, status: int, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """Return the error object the official clients parse."""
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(
        status, "server_error" if status >= 500 else "invalid_request_error"
    )
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


async def answer_refused(_: Request, error: Exception) -> JSONResponse:
    """Answer a `RequestRefused`; a full server asks to come back in a second."""
    assert isinstance(error, RequestRefused)
    headers = {"Retry-After": "1"} if error.status in {429, 503} else None
    return JSONResponse(error_body(str(error), error.status, error.code, error.param), error.status, headers)


async def answer_invalid(_: Request, error: Exception) -> JSONResponse:
    """Answer a body that does not validate, naming its first wrong field; OpenAI says 400 here, not 422."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    param = ".".join(str(part) for part in first["loc"] if part != "body") or None
    return JSONResponse(error_body(f"{param or 'body'}: {first['msg']}", 400, "invalid_value", param), 400)


async def answer_http(_: Request, error: Exception) -> JSONResponse:
    """Answer an unknown path or method."""
    assert isinstance(error, HTTPException)
    return JSONResponse(error_body(error.detail, error.status_code), error.status_code)


async def answer_failed(_: Request, error: Exception) -> JSONResponse:
    """Answer a generation that failed."""
    return JSONResponse(error_body(str(error), 500, "generation_failed"), 500)


async def answer_crashed(_: Request, __: Exception) -> JSONResponse:
    """Answer a mistake of the server itself; the trace is in its log, not in the answer."""
    return JSONResponse(error_body("the server failed on this request; its log says why", 500), 500)
