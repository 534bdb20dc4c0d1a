"""No endpoint reads a body further than it may be long, whatever the sender says of its length.

FastAPI's `max_body_size` does the same, but answers in plain text, also over the answer of an endpoint that
read no body at all.
"""

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyCap:
    """Middleware; without it a sender of chunks without end fills the memory."""

    def __init__(self, app: ASGIApp, most: int, paths: Mapping[str, int]) -> None:
        """`most` bytes for all but those `paths` that have a cap of their own."""
        self.app, self._most, self._paths = app, most, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = self._paths.get(scope["path"], self._most)
        declared = Headers(scope=scope).get("content-length", "")
        declared_too_long = declared.isdigit() and int(declared[:20]) > most
        read = 0

        async def capped() -> Message:
            nonlocal read
            if declared_too_long:  # said here: an endpoint that never reads is not refused
                raise HTTPException(413)
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise HTTPException(413)
            return message

        await self.app(scope, capped, send)
