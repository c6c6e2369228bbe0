"""A limit on request bodies, before anything keeps them."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FORM_BYTES = 2**20
"""Of what comes to the dashboard, before anybody knows from whom: parsed in memory up to here, on disk above."""
API = "/v1/"
"""Every route below takes a key in its header, and `Gate` asks for it first."""


class BodyLimit:
    """Refuses bodies above a size with 413, whether or not they say so in advance; outside of the API above a mebibyte.

    Starlette's own limit answers declared sizes in plain text; raised here, the answer is a problem like any other.
    It must be an `HTTPException`: FastAPI makes 400 of whatever else goes wrong while it reads a body.
    """

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self.app, self.limit_bytes = app, limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on while it stays within the limit."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        limit_bytes = self.limit_bytes if scope["path"].startswith(API) else min(self.limit_bytes, FORM_BYTES)
        declared = Headers(scope=scope).get("content-length", "")
        declared_bytes, received_bytes = int(declared) if declared.isdecimal() else 0, 0

        async def counting_receive() -> Message:
            nonlocal received_bytes
            _check(declared_bytes, limit_bytes)
            message = await receive()
            received_bytes += len(message.get("body", b""))
            _check(received_bytes, limit_bytes)
            return message

        return await self.app(scope, counting_receive, send)


def _check(size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise HTTPException(413, f"The body is larger than {limit_bytes / 2**20:g} MiB")
