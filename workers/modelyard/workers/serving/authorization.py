"""Bearer token before every route but `/health`."""

import hmac

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from modelyard.workers.serving.errors import error_body

OPEN_PATHS = {"/health"}


class BearerToken:
    """ASGI middleware. Not FastAPI's `@app.middleware`, which would stand between a stream and its client's leaving."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer 401."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS and not self._is_allowed(scope):
            body = error_body("The bearer token is missing or wrong", 401, "invalid_api_key")
            await JSONResponse(body, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_allowed(self, scope: Scope) -> bool:
        given = Headers(scope=scope).get("authorization", "").encode()
        # Constant time: the moment of the first wrong byte must not show.
        return hmac.compare_digest(given, self._expected)
