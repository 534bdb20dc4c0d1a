"""A request's body: one limit on its length for every endpoint, and one strict parser of JSON."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.web.problems import ProblemError, is_json

READ_ON_BYTES = 64 * 2**20
"""Bytes of an unwanted body that are read and dropped at most."""
_SMALL_BYTES = 65_536
"""Bytes of a body that keeps its connection although nobody knows its sender; a longer one is answered first."""
READ_ON_SECONDS = 10.0
"""Seconds in which an unwanted body is read and dropped."""


class BodyLimit:
    """Middleware that reads no body further than its limit, whatever the sender says of its length: 413.

    Without it a sender of endless chunks fills the memory. FastAPI's `max_body_size` answers in plain text, and
    also where an endpoint has read no body, such as with 401.

    The rest of a body that nobody wants is read and dropped for a while. A connection that is closed while data waits
    in it is reset, and a client that sends everything before it reads would lose the answer (RFC 9112, section 9.6).
    """

    def __init__(self, app: ASGIApp, default: int, by_path: Mapping[str, int]) -> None:
        """`default`: bytes. `by_path`: other limits, in bytes, by the beginning of the path."""
        self.app, self._default, self._by_path = app, default, by_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _LimitedBody(Headers(scope=scope), self._limit(scope["path"]), receive, send)
        await self.app(scope, body.receive, body.send)

    def _limit(self, path: str) -> int:
        return next((limit for start, limit in self._by_path.items() if path.startswith(start)), self._default)


class _LimitedBody:
    """The body of one request, and the answer, which waits for the end of the body."""

    def __init__(self, headers: Headers, limit: int, receive: Receive, send: Send) -> None:
        self._limit, self._receive, self._send = limit, receive, send
        declared = headers.get("content-length", "")
        self._declared = int(declared[:20]) if declared.isdigit() else None
        # An HTTPException is the one error that FastAPI's own reading of bodies passes on.
        self._too_large = HTTPException(413, f"The body may have at most {limit:,} bytes.")
        self._received = 0
        self._ended = not self._declared and "transfer-encoding" not in headers
        self._uninvited = headers.get("expect", "").lower() == "100-continue"
        """The client waits for 100 Continue, which the first `receive` sends. After a refusal it sends no body."""

    async def receive(self) -> Message:
        """The next part of the body.

        Raises:
            HTTPException: 413, the body is longer than its limit.
        """
        if self._is_too_large_by_its_header:  # raised only here: an endpoint that reads no body does not refuse it
            raise self._too_large
        message = await self._receive_next()
        if self._received > self._limit:
            raise self._too_large
        return message

    async def send(self, message: Message) -> None:
        """Pass the answer on. The client gets all of it before the rest of the body is read; then it is complete."""
        if message["type"] == "http.response.start":
            wanted = message["status"] != 401 or (self._declared is not None and self._declared <= _SMALL_BYTES)
            if wanted and not self._is_too_large_by_its_header and self._received <= self._limit:
                await self._read_on(self._limit)  # a small body that the endpoint does not need: the connection stays
            if not self._ended:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await self._send(message)
        elif self._ended or message.get("more_body", False):
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            await self._read_on(READ_ON_BYTES)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    @property
    def _is_too_large_by_its_header(self) -> bool:
        return self._declared is not None and self._declared > self._limit

    async def _receive_next(self) -> Message:
        self._uninvited = False
        message = await self._receive()
        self._received += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        return message

    async def _read_on(self, most: int) -> None:
        """Read and drop what the client still sends: up to so many bytes more, for a few seconds."""
        if self._ended or self._uninvited:
            return
        end = self._received + most
        with suppress(TimeoutError):
            async with asyncio.timeout(READ_ON_SECONDS):
                while not self._ended and self._received <= end:
                    await self._receive_next()


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


async def read_json(request: Request) -> bytes:
    """The raw body of a request whose content type is JSON, not parsed.

    Raises:
        HTTPException, ProblemError: as `must_be_json` and `read`.
    """
    must_be_json(request)
    return await read(request)


HookBody = Annotated[bytes, Depends(read_json)]
"""The raw JSON body of a webhook, not parsed."""


class NotJsonError(ValueError):
    """The body is not JSON (RFC 8259), or is JSON that cannot be stored."""


def parse(body: bytes) -> Any:
    """The JSON value of a body. Strict: no NaN, no repeated name, no unlimited number or nesting.

    Raises:
        NotJsonError: the body is not such JSON.
    """
    try:
        return _STRICT.decode(body.decode())
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise NotJsonError from None


def _refuse_constant(constant: str) -> None:
    raise NotJsonError(constant)


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotJsonError("an object has the same name twice")
    return found


_STRICT = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique_names)
