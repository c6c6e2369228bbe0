"""A limit on request bodies, before anything keeps them."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Refuses bodies above a size with 413, whether or not they say so in advance.

    Starlette's own limit answers declared sizes in plain text; raised here, the answer is a problem like any other.
    It must be an `HTTPException`: FastAPI makes 400 of whatever else goes wrong while it reads a body.
    """

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self.app, self.limit_bytes = app, limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on while it stays within the limit."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        declared = Headers(scope=scope).get("content-length", "")
        declared_bytes, received_bytes = int(declared) if declared.isdecimal() else 0, 0

        async def counting_receive() -> Message:
            nonlocal received_bytes
            self._check(declared_bytes)
            message = await receive()
            received_bytes += len(message.get("body", b""))
            self._check(received_bytes)
            return message

        return await self.app(scope, counting_receive, send)

    def _check(self, size_bytes: int) -> None:
        if size_bytes > self.limit_bytes:
            raise HTTPException(413, f"The body is larger than {self.limit_bytes / 2**20:g} MiB")
