"""The key is checked before a byte of the body is read; else FastAPI would read it, and spool uploads to disk, first."""

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from modelyard.api.bodies import API
from modelyard.api.dependencies import identify
from modelyard.api.errors import answer_error


class Gate:
    """Refuses a request with a body whose key is missing or wrong, and closes the connection: nobody reads what comes after."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on if it has no body, or comes from a caller we know."""
        if scope["type"] != "http" or not scope["path"].startswith(API) or not _has_body(Headers(scope=scope)):
            return await self.app(scope, receive, send)
        request = Request(scope)
        try:
            await identify(request.app.state.platform.callers, request.headers.get("authorization"))
        except Exception as error:
            refusal = answer_error(request, error)
            refusal.headers["Connection"] = "close"
            return await refusal(scope, receive, send)
        return await self.app(scope, receive, send)


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
