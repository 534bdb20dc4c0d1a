"""A request's body, read no further than it may be long, and taken for JSON no more lightly than it must."""

import json
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

from worker.web.context import Context
from worker.web.problems import ProblemError

_JSON = "application/json"


class NotJsonError(ValueError):
    """The body is not JSON (RFC 8259), or not such as could be kept."""


async def read(request: Request, most: int) -> bytes:
    """The raw body.

    Raises:
        ProblemError: 413 when it is longer than `most` bytes, also when it does not say how long it is; 415 when it
            is compressed; 400 when the sender went away.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ProblemError(415, "content_encoding", "The body must not be compressed.")
    too_large = ProblemError(413, "too_large", f"The body may have {most:,} bytes at the most.")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > most:
        raise too_large
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > most:
                raise too_large
    except ClientDisconnect:
        raise ProblemError(400, "incomplete", "The body ended before it was whole.") from None
    return bytes(body)


def must_be_json(request: Request) -> None:
    """Refuse another content type.

    Raises:
        ProblemError: 415.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        raise ProblemError(415, "content_type", f"The content type must be {_JSON}.")


async def _hook_body(request: Request, context: Context) -> bytes:
    must_be_json(request)
    return await read(request, context.settings.hook_body_bytes)


HookBody = Annotated[bytes, Depends(_hook_body)]
"""The raw JSON body of a webhook, not parsed yet."""


def parse(body: bytes) -> Any:
    """The JSON value of a body; strict: no NaN, no name twice, no number without end, no nesting without end.

    Raises:
        NotJsonError: it is none.
    """
    try:
        return json.loads(body.decode(), parse_constant=_refuse, object_pairs_hook=_no_name_twice)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise NotJsonError from None


def _refuse(constant: str) -> None:
    raise NotJsonError(constant)


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotJsonError("a name stands there twice")
    return found
