"""One request to an API of another system, with its answer: the same guards as `safe_post`, and a limit on the answer.

No redirect is followed and nothing compressed is taken: a small answer could unfold to a large one.
"""

import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpcore2

from worker.texts import mark
from worker.webhooks.safe_post import EXCHANGE_ERRORS, PrivateAddressError, PublicAddresses, read_retry_after

SECONDS = 8.0
"""Time limit of the whole exchange, the body included."""
MAX_BYTES = 1_048_576
"""Maximum size of an answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: a status and a body, or an error. `retry_after`: seconds, if the header gave them."""

    status: int | None = None
    body: bytes = b""
    error: str | None = None
    retry_after: int | None = None


def call(method: str, url: str, headers: Mapping[str, str], body: bytes = b"", *, allow_private: bool) -> Reply:
    """Make a request. Whatever goes wrong is a reply with an error, never an exception.

    `allow_private`: also to addresses of the private network.
    """
    backend = PublicAddresses(allow_private=allow_private, deadline=time.monotonic() + SECONDS)
    sent = {
        "Host": urlsplit(url).netloc,
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": "withdrawals",
        "Content-Length": str(len(body)),
        **headers,
    }
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), SECONDS)
    try:
        with (
            httpcore2.ConnectionPool(network_backend=backend, ssl_context=ssl.create_default_context()) as pool,
            pool.stream(method, url, headers=list(sent.items()), content=body, extensions={"timeout": timeouts}) as got,
        ):
            if any(name.lower() == b"content-encoding" for name, _ in got.headers):
                return Reply(error=mark("the answer is compressed"))
            content = _read(got.iter_stream())
            if content is None:
                return Reply(error=mark("the answer is too long"))
            return Reply(got.status, content, retry_after=read_retry_after(got.headers))
    except PrivateAddressError:
        return Reply(error=mark("private address"))
    except EXCHANGE_ERRORS as error:
        return Reply(error=type(error).__name__)


def _read(pieces: Iterable[bytes]) -> bytes | None:
    """The whole body; None: it is longer than the limit."""
    found = bytearray()
    for piece in pieces:
        found += piece
        if len(found) > MAX_BYTES:
            return None
    return bytes(found)
