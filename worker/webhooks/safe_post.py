"""One POST to a URL that somebody else chose, without reaching into the private network (server-side request forgery).

The host name is resolved once. All its addresses must be public, and one of these very addresses is connected to: a
name that resolves to a private address the second time gains nothing. No redirect is followed, no proxy is used and no
body is read. The whole exchange has a time limit, also when the server sends one byte a second.
"""

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpcore2
from httpcore2 import NetworkBackend, NetworkStream, SyncBackend

from worker.errors import InvalidInputError
from worker.public_addresses import is_public
from worker.texts import mark, text

EXCHANGE_ERRORS = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
    OSError,
)
"""What an exchange with another host may end with."""
SECONDS = 5.0
"""Time limit of the whole exchange: name, connection, TLS, request, status line and headers."""
_PIECE = 16_384
"""Bytes that are written before the time is looked at again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: an HTTP status or an error. `retry_after`: seconds, if the header gave them."""

    status: int | None = None
    error: str | None = None
    retry_after: int | None = None

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def check_url(url: str, *, allow_private: bool) -> None:
    """Refuse a URL that nothing could be sent to. Host names are resolved only when something is sent.

    Raises:
        InvalidInputError: the URL is wrong; the message does not quote it.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InvalidInputError(text("url: cannot be read. Example: https://help.example/hooks")) from None
    if not url.isascii() or any(character.isspace() or not character.isprintable() for character in url):
        raise InvalidInputError(text("url: has characters that are not allowed in a URL"))
    if parts.scheme != "https" and not (allow_private and parts.scheme == "http"):
        raise InvalidInputError(text("url: must begin with https://"))
    if not host:
        raise InvalidInputError(text("url: has no host"))
    if parts.username is not None or parts.password is not None:
        raise InvalidInputError(text("url: must not contain a user or a password"))
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return
    if not allow_private and not is_public(str(address)):
        raise InvalidInputError(
            text("url: a private or loopback address; only WITHDRAWALS_WEBHOOKS_ALLOW_PRIVATE allows it")
        )


def post(url: str, headers: Mapping[str, str], body: bytes, *, allow_private: bool) -> Answer:
    """Send `body`. Whatever goes wrong is an answer, never an exception."""
    backend = PublicAddresses(allow_private=allow_private, deadline=time.monotonic() + SECONDS)
    limits = dict.fromkeys(("connect", "read", "write", "pool"), SECONDS)
    try:
        with (
            httpcore2.ConnectionPool(network_backend=backend, ssl_context=ssl.create_default_context()) as pool,
            pool.stream(
                "POST",
                url,
                headers=[("Host", urlsplit(url).netloc), ("Content-Length", str(len(body))), *headers.items()],
                content=body,
                extensions={"timeout": limits},
            ) as response,
        ):
            return Answer(status=response.status, retry_after=read_retry_after(response.headers))
    except PrivateAddressError:
        return Answer(error=mark("private address"))
    except EXCHANGE_ERRORS as error:
        return Answer(error=type(error).__name__)


def read_retry_after(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """The seconds of a `Retry-After` header, a day at the most; None: there is none, or it is a date."""
    value = next((value for name, value in headers if name.lower() == b"retry-after"), b"")
    return min(int(value), 86_400) if value.isdigit() and len(value) < 10 else None


class PrivateAddressError(Exception):
    """A host name resolves to an address that is not public."""


class PublicAddresses(NetworkBackend):
    """Connects only to public addresses, and only before a deadline."""

    def __init__(self, *, allow_private: bool, deadline: float) -> None:
        self._allow_private = allow_private
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError):
            raise httpcore2.ConnectError("the host name does not resolve") from None
        addresses = [str(item[4][0]).partition("%")[0] for item in found]
        if not self._allow_private and not all(is_public(address) for address in addresses):
            raise PrivateAddressError
        stream = SyncBackend().connect_tcp(
            addresses[0], port, _seconds_left(self._deadline), local_address, socket_options
        )
        return _StreamWithDeadline(stream, self._deadline)


class _StreamWithDeadline(NetworkStream):
    """A stream whose operations all end before one deadline."""

    def __init__(self, stream: NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _seconds_left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE):  # a stream's limit begins anew when the receiver takes a little
            self._stream.write(buffer[start : start + _PIECE], _seconds_left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NetworkStream:
        return _StreamWithDeadline(
            self._stream.start_tls(ssl_context, server_hostname, _seconds_left(self._deadline)), self._deadline
        )

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _seconds_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout("the exchange took too long")
    return left
