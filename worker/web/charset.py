"""Forms are UTF-8. The library decodes the fields of a multipart form with any codec that the sender names."""

import codecs

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALLOWED = ("utf-8", "ascii")


class Utf8Forms:
    """Middleware that refuses a multipart form in another charset: 415.

    Without it one request stops the process for minutes (`punycode` needs time that grows with the square of the
    length), or is answered as an unexpected error (`undefined`). RFC 7578 has no such parameter.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = scope["type"] == "http" and not _is_utf8(Headers(scope=scope).get("content-type", ""))

        async def receive_utf8() -> Message:
            if refused:  # raised only here: an endpoint that reads no body does not refuse it
                raise HTTPException(415, "A form must be sent as UTF-8, without another charset.")
            return await receive()

        await self.app(scope, receive_utf8, send)


def _is_utf8(content_type: str) -> bool:
    if "multipart" not in content_type.lower():
        return True
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or b"charset" not in options:
        return True
    try:
        return codecs.lookup(options[b"charset"].decode("latin-1")).name in _ALLOWED
    except (LookupError, ValueError):  # ValueError: the name has a NUL
        return False
