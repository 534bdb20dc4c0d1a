"""Requests to the provider: its own host, and other hosts that it names as long as they are public.

A provider tells in its metadata where its keys and its token endpoint are. Who controls that document must not make
this service ask addresses of the private network. An answer has a limit in size and in time; no redirect is followed.
"""

import ssl
import threading
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import httpcore2
import httpx2
from httpcore2 import NetworkStream

from worker.webhooks.safe_post import EXCHANGE_ERRORS, PrivateAddressError, PublicAddresses

SECONDS = 8.0
"""Time limit of one exchange."""
MOST, WAIT_SECONDS = 8, 2.0
"""Exchanges at a time, and how long another one waits: a provider that hangs must not hold every thread."""
MAX_BYTES = 1_048_576
"""Maximum size of an answer."""
HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "withdrawals"}
"""Nothing compressed: a small answer could unfold to a large one."""


class ProviderTransport(httpx2.BaseTransport):
    """Sends requests of one provider, each over a connection of its own."""

    def __init__(self, issuer: str) -> None:
        self._host = urlsplit(issuer).hostname or ""
        self._tls = ssl.create_default_context()
        self._places = threading.BoundedSemaphore(MOST)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, and read the whole answer.

        Raises:
            TransportError: the host cannot be reached or is a private one, or the answer takes too long or is too long.
        """
        if not self._places.acquire(timeout=WAIT_SECONDS):
            raise httpx2.ConnectError("too many requests wait for the provider")
        try:
            return self._exchange(request)
        except PrivateAddressError:
            raise httpx2.ConnectError(f"{request.url.host} has a private address") from None
        except EXCHANGE_ERRORS as error:
            raise httpx2.ConnectError(type(error).__name__) from None
        finally:
            self._places.release()

    def _exchange(self, request: httpx2.Request) -> httpx2.Response:
        backend = _ProviderAddresses(self._host, time.monotonic() + SECONDS)
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), SECONDS)
        with (
            httpcore2.ConnectionPool(network_backend=backend, ssl_context=self._tls) as pool,
            pool.stream(
                request.method,
                str(request.url),
                headers=request.headers.raw,
                content=request.read(),
                extensions={"timeout": timeouts},
            ) as response,
        ):
            if any(name.lower() == b"content-encoding" for name, _ in response.headers):
                raise httpx2.DecodingError("the answer is compressed, which was not asked for")
            return httpx2.Response(
                response.status, headers=response.headers, content=_read(response.iter_stream()), request=request
            )


def _read(pieces: Iterable[bytes]) -> bytes:
    found = b""
    for piece in pieces:
        found += piece
        if len(found) > MAX_BYTES:
            raise httpx2.ReadError(f"the answer is longer than {MAX_BYTES:,} bytes")
    return found


class _ProviderAddresses(PublicAddresses):
    """Connects to the issuer's own host wherever it is, which an operator has set, and else to public addresses."""

    def __init__(self, host: str, deadline: float) -> None:
        super().__init__(allow_private=False, deadline=deadline)
        self._host = host

    def connect_tcp(self, host: str, port: int, *given: Any, **options: Any) -> NetworkStream:
        self._allow_private = host == self._host
        return super().connect_tcp(host, port, *given, **options)
