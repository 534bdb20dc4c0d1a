"""A body that is too large, or that nobody reads: the client gets its answer, also one that is still sending."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from urllib.parse import urlsplit

import pytest

from tests.world import PATIENCE
from worker.config import Settings
from worker.web import body

LARGE = 48 * 2**20
HOOK = "/hooks/hr/anyone"


@contextmanager
def connected(address: str) -> Iterator[socket.socket]:
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=PATIENCE) as made:
        yield made


def head(path: str = HOOK, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode()


def read_to_the_end(made: socket.socket) -> bytes:
    """What the server sends until it closes. A reset raises."""
    found = b""
    while part := made.recv(65536):
        found += part
    return found


def send_chunks(made: socket.socket, size: int) -> None:
    part = b" " * 2**16
    for _ in range(size // len(part)):
        made.sendall(b"%x\r\n%b\r\n" % (len(part), part))
    made.sendall(b"0\r\n\r\n")


@pytest.mark.parametrize("more", [[], ["Connection: close"]])
@pytest.mark.parametrize("declared", [True, False])
def test_a_client_that_sends_everything_before_it_reads_gets_the_413(
    address: str, environment: Settings, declared: bool, more: list[str]
) -> None:
    with connected(address) as made:
        if declared:
            made.sendall(head(HOOK, f"Content-Length: {LARGE}", *more))
            made.sendall(b" " * LARGE)
        else:
            made.sendall(head(HOOK, "Transfer-Encoding: chunked", *more))
            send_chunks(made, LARGE)
        answer = read_to_the_end(made)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert f"{environment.hook_body_bytes:,} bytes".encode() in answer
    assert b"\r\nconnection: close\r\n" in answer.lower()


def test_a_large_body_that_nobody_reads_does_not_hide_the_401(address: str) -> None:
    with connected(address) as made:
        made.sendall(head("/v1/jobs", f"Content-Length: {LARGE}", "Connection: close"))
        made.sendall(b" " * LARGE)
        assert read_to_the_end(made).startswith(b"HTTP/1.1 401 ")


def test_a_client_that_reads_while_it_sends_has_the_413_before_it_has_sent_all(address: str) -> None:
    with connected(address) as made:
        made.sendall(head(HOOK, f"Content-Length: {LARGE}") + b" " * 1000)
        found = b""
        while b"urn:withdrawals:problem:too_large" not in found:
            found += made.recv(65536)


@pytest.mark.parametrize(("size", "status"), [(LARGE, b"413"), (100, b"401")])
def test_a_client_that_waits_for_100_continue_is_refused_without_sending(
    address: str, size: int, status: bytes
) -> None:
    """What it may not send is not asked for; what it may send is."""
    with connected(address) as made:
        made.sendall(head(HOOK, f"Content-Length: {size}", "Expect: 100-continue"))
        if size == LARGE:
            assert read_to_the_end(made).startswith(b"HTTP/1.1 413 ")
            return
        assert made.recv(65536).startswith(b"HTTP/1.1 100 ")
        made.sendall(b" " * size)
        assert made.recv(65536).startswith(b"HTTP/1.1 " + status)


def test_a_client_without_a_token_that_waits_for_100_continue_sends_no_body(address: str) -> None:
    with connected(address) as made:
        made.sendall(head("/v1/jobs", "Content-Length: 1000", "Expect: 100-continue"))
        assert read_to_the_end(made).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("bound", ["READ_ON_BYTES", "READ_ON_SECONDS"])
def test_the_rest_of_a_body_is_read_for_a_bounded_while(
    address: str, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """A sender that never ends is cut off: after so many bytes, and after some seconds."""
    monkeypatch.setattr(body, bound, 0)
    with connected(address) as made:
        made.sendall(head(HOOK, "Transfer-Encoding: chunked"))
        with pytest.raises((ConnectionError, EOFError)):
            while True:
                made.sendall(b"%x\r\n%b\r\n" % (2**16, b" " * 2**16))


def test_a_small_body_that_nobody_reads_leaves_the_connection_open(address: str) -> None:
    with connected(address) as made:
        for _ in range(2):
            made.sendall(head("/v1/jobs", "Content-Length: 2") + b"{}")
            found = b""
            while not re.search(rb"\r\n\r\n\{.*\}$", found, re.DOTALL):
                found += made.recv(65536)
            assert found.startswith(b"HTTP/1.1 401 ")
            assert b"connection: close" not in found.lower()


def test_a_caller_without_a_token_is_refused_before_the_body_is_sent(address: str) -> None:
    """Headers alone: the answer comes although not a byte of the body does."""
    for path in ("/v1/jobs/plan", "/scim/v2/Users", "/v1/jobs/file"):
        with connected(address) as made:
            made.sendall(head(path, f"Content-Length: {2**20}", "Authorization: Bearer wdt_none"))
            assert made.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_a_small_body_of_an_unknown_caller_keeps_the_connection(address: str) -> None:
    with connected(address) as made:
        for _ in range(2):
            made.sendall(head("/v1/jobs/plan", "Content-Length: 2") + b"{}")
            answer = HTTPResponse(made)  # reads its end too, which may come later than its beginning
            answer.begin()
            assert (answer.status, bool(answer.read())) == (401, True)
