"""Errors as problem details (RFC 9457). The extra member `error` makes the same body readable for OpenAI clients."""

import math
import re
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic_core import PydanticSerializationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from modelyard.domain.errors import DomainError
from modelyard.kit.commits import TooManyWaiting, WriterClosed
from modelyard.kit.database import DatabaseAway
from modelyard.kit.logs import get_logger

TITLES = {
    400: "Bad request",
    401: "A valid API key is needed",
    403: "The API key may not do this",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    422: "The request cannot be used as it is",
    429: "Too many",
    500: "Internal error",
    502: "The model server did not answer",
    503: "Not available now",
}
HALF_CHARACTER = re.compile(r"\\ud[89a-f][0-9a-f]{2}", re.IGNORECASE)
log = get_logger(__name__)


class ApiError(DomainError):
    """An error only HTTP knows: authentication, sizes, upstream servers."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        value: object = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message, field=field, value=value)
        self.status, self.code, self.retry_after_seconds = status, code, retry_after_seconds


def problem(
    status: int, code: str, detail: str, fields: Sequence[dict[str, Any]] = (), headers: dict[str, str] | None = None
) -> JSONResponse:
    """A problem document."""
    body = {
        "type": f"urn:modelyard:problem:{code}",
        "title": TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "code": code,
        "errors": list(fields),
        "error": {"message": detail, "type": code, "code": code, "param": fields[0]["field"] if fields else None},
    }
    return JSONResponse(body, status, headers=headers, media_type="application/problem+json")


def install_error_handlers(app: FastAPI) -> None:
    """Make every error of an app a problem document."""
    app.add_exception_handler(DomainError, _domain_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    for busy in (TooManyWaiting, WriterClosed):
        app.add_exception_handler(busy, _busy_error)
    for away in DatabaseAway:
        app.add_exception_handler(away, _database_error)
    for unwritable in (UnicodeEncodeError, PydanticSerializationError):
        app.add_exception_handler(unwritable, _half_character)
    app.add_exception_handler(Exception, _unexpected_error)


def answer_error(request: Request, error: Exception) -> Response:
    """Answer as the application does, outside of it. Raises the error again where the application has no answer of its own."""
    handlers = request.app.exception_handlers
    for kind in type(error).__mro__:
        if kind in handlers and kind is not Exception:
            response: Response = handlers[kind](request, error)
            return response
    raise error


def _domain_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DomainError)
    fields = [{"field": error.field, "value": _short(error.value), "reason": str(error)}] if error.field else []
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    if isinstance(error, ApiError) and error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    return problem(error.status, error.code, str(error), fields, headers)


def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    fields = [_field_error(found) for found in error.errors()]
    detail = "; ".join(f"{entry['field']}: {entry['reason']}" for entry in fields[:5])
    return problem(422, "invalid_request", detail, fields)


def _field_error(found: dict[str, Any]) -> dict[str, Any]:
    if found["type"] == "json_invalid":
        return {"field": "body", "value": None, "reason": f"not JSON: {found['ctx']['error']} at character {found['loc'][-1]}"}
    return {"field": _field_of(found["loc"]), "value": _short(found.get("input")), "reason": found["msg"]}


def _field_of(location: Sequence[Any]) -> str:
    """`("body", "spec", "pretrain", "steps")` -> `spec.steps`: the union's member name says nothing to the user."""
    from modelyard.domain.specs import KINDS

    parts = [str(part) for part in location]
    if parts and parts[0] == "body":
        parts = parts[1:]
    kept = [part for position, part in enumerate(parts) if not (part in KINDS and position and parts[position - 1] == "spec")]
    return ".".join(kept) or "body"


def _short(value: object) -> object:
    """A value as it may be repeated in an answer: plain and finite as it is, anything else as the start of its text."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    text = str(value).encode("utf-8", "replace").decode()  # half a surrogate pair came in as JSON, but cannot go out
    return f"{text[:200]}…" if len(text) > 200 else text


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = {404: "no_such_route", 405: "method_not_allowed", 413: "body_too_large"}.get(error.status_code, "http_error")
    hint = {413: "The limit is MODELYARD_MAX_BODY_MEGABYTES"}.get(error.status_code, "GET /openapi.json lists the routes")
    detail = f"{request.method} {request.url.path}: {error.detail}. {hint}"
    return problem(error.status_code, code, detail, headers=dict(error.headers) if error.headers else None)


def _database_error(request: Request, error: Exception) -> JSONResponse:
    log.error("database unavailable", error=str(error))
    return problem(503, "database_unavailable", "The database does not answer; try again shortly", headers={"Retry-After": "2"})


def _busy_error(request: Request, error: Exception) -> JSONResponse:
    return problem(503, "busy", str(error), headers={"Retry-After": "2"})


def _half_character(request: Request, error: Exception) -> JSONResponse:
    """JSON can write half of a surrogate pair, and text of a spec that has no pattern keeps it until it is to be stored."""
    found = HALF_CHARACTER.search(str(error))
    if found is None:
        raise error
    reason = f"{found[0]} is half of a surrogate pair and no character; send the whole pair, or leave it out"
    return problem(422, "invalid_request", f"body: {reason}", [{"field": "body", "value": found[0], "reason": reason}])


def _unexpected_error(request: Request, error: Exception) -> JSONResponse:
    log.error("unexpected error", path=request.url.path, exc_info=error)
    return problem(500, "internal_error", "Something went wrong on the server; its log says what")
