"""A limit on request bodies, before anything reads them."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelyard.api.errors import problem


class BodyLimit:
    """Answers 413 to bodies above a size, whether or not they say so in advance."""

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self.app, self.limit_bytes = app, limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on while it stays within the limit."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self.limit_bytes:
            return await self._refuse(scope, receive, send)
        received, answered = 0, False

        async def counting_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit_bytes:
                raise _TooLarge
            return message

        async def watching_send(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self.app(scope, counting_receive, watching_send)
        except _TooLarge:
            if not answered:
                await self._refuse(scope, receive, send)
        return None

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = f"{self.limit_bytes / 2**20:g} MiB"
        answer = problem(413, "body_too_large", f"The body is larger than {limit} (MODELYARD_MAX_BODY_MEGABYTES)")
        await answer(scope, receive, send)


class _TooLarge(Exception):
    """More bytes came than are allowed."""
