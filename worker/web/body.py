"""A request's body: one limit on its length for every endpoint, and one strict parser of JSON."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.web.problems import ProblemError, is_json


class BodyLimit:
    """Middleware that reads no body further than its limit, whatever the sender says of its length: 413.

    Without it a sender of endless chunks fills the memory. FastAPI's `max_body_size` answers in plain text, and
    also where an endpoint has read no body, such as with 401.
    """

    def __init__(self, app: ASGIApp, default: int, by_path: Mapping[str, int]) -> None:
        """`default`: bytes. `by_path`: other limits, in bytes, by the beginning of the path."""
        self.app, self._default, self._by_path = app, default, by_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self._limit(scope["path"])
        # An HTTPException is the one error that FastAPI's own reading of bodies passes on.
        too_large = HTTPException(413, f"The body may have at most {limit:,} bytes.")
        declared = Headers(scope=scope).get("content-length", "")
        declared_too_large = declared.isdigit() and int(declared[:20]) > limit
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            if declared_too_large:  # raised only here: an endpoint that reads no body does not refuse it
                raise too_large
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise too_large
            return message

        await self.app(scope, receive_limited, send)

    def _limit(self, path: str) -> int:
        return next((limit for start, limit in self._by_path.items() if path.startswith(start)), self._default)


async def read(request: Request) -> bytes:
    """The raw body, not parsed.

    Raises:
        HTTPException: 413, it is longer than the limit of its path.
        ProblemError: 415, it is compressed; 400, the connection ended before the body did.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ProblemError(415, "content_encoding", "The body must not be compressed.")
    try:
        return await request.body()
    except ClientDisconnect:
        raise ProblemError(400, "incomplete", "The connection ended before the body did.") from None


def must_be_json(request: Request) -> None:
    """Refuse another content type.

    Raises:
        ProblemError: 415.
    """
    if not is_json(request):
        raise ProblemError(415, "content_type", "The content type must be application/json.")


async def _hook_body(request: Request) -> bytes:
    must_be_json(request)
    return await read(request)


HookBody = Annotated[bytes, Depends(_hook_body)]
"""The raw JSON body of a webhook, not parsed."""


class NotJsonError(ValueError):
    """The body is not JSON (RFC 8259), or is JSON that cannot be stored."""


def parse(body: bytes) -> Any:
    """The JSON value of a body. Strict: no NaN, no repeated name, no unlimited number or nesting.

    Raises:
        NotJsonError: the body is not such JSON.
    """
    try:
        return json.loads(body.decode(), parse_constant=_refuse_constant, object_pairs_hook=_unique_names)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise NotJsonError from None


def _refuse_constant(constant: str) -> None:
    raise NotJsonError(constant)


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotJsonError("an object has the same name twice")
    return found
