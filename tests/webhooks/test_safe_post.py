"""One POST that cannot reach into the private network, and always ends in time."""

import contextlib
import socket
import threading
from typing import Any

import pytest

from tests.webhooks.conftest import Receiver
from tests.world import PATIENCE
from worker.webhooks import safe_call, safe_post


def test_a_name_that_turns_out_to_be_private_is_not_connected_to(receiver: Receiver) -> None:
    port = receiver.server.server_address[1]
    answer = safe_post.post(f"http://localhost:{port}/", {}, b"{}", allow_private=False)
    assert answer == safe_post.Answer(error="private address")
    assert receiver.got == []


def test_a_name_with_one_private_address_among_others_is_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    answer = safe_post.post("https://help.example/", {}, b"{}", allow_private=False)
    assert answer == safe_post.Answer(error="private address")


def test_an_api_is_asked_at_public_addresses_alone_and_for_a_short_answer(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://localhost:{receiver.server.server_address[1]}/"
    assert safe_call.call("POST", url, {}, b"{}", allow_private=False).error == "private address"
    assert receiver.got == []
    receiver.status, receiver.headers = 429, {"Retry-After": "7", "Content-Length": "0"}
    assert safe_call.call("POST", url, {}, b"{}", allow_private=True) == safe_call.Reply(429, b"", retry_after=7)
    receiver.headers = {"Content-Length": "0", "Content-Encoding": "gzip"}
    assert safe_call.call("POST", url, {}, b"{}", allow_private=True).error == "the answer is compressed"
    with monkeypatch.context() as patched:
        patched.setattr(safe_call, "MAX_BYTES", 5)
        assert [safe_call._read([b"abc", rest]) for rest in (b"de", b"def")] == [b"abcde", None]
    receiver.status, receiver.headers = 302, {"Location": url + "other", "Content-Length": "0"}
    assert safe_call.call("POST", url, {}, b"{}", allow_private=True).status == 302, "no redirect is followed"
    assert len(receiver.got) == 3


def test_a_receiver_that_drips_is_left_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes within the time of one read; all of them together do not."""
    monkeypatch.setattr(safe_post, "SECONDS", 2.0)
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            connection, _ = listening.accept()
            with connection:
                for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000:
                    if ended.wait(0.05):
                        return
                    connection.sendall(bytes([byte]))

        thread = threading.Thread(target=lambda: _quietly(drip), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        answer = safe_post.post(url, {}, b"{}", allow_private=True)
        ended.set()
        thread.join(PATIENCE)
    assert answer.error == "ReadTimeout"


def test_a_receiver_that_reads_slowly_is_left_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes something within the time of each write, but not all of it: another worker would send it as well."""
    monkeypatch.setattr(safe_post, "SECONDS", 2.0)
    ended, size, taken = threading.Event(), 32_000_000, [0]
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def sip() -> None:
            connection, _ = listening.accept()
            with connection:
                while not ended.wait(0.01):
                    taken[0] += len(connection.recv(10_000))

        thread = threading.Thread(target=lambda: _quietly(sip), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        answer = safe_post.post(url, {}, bytes(size), allow_private=True)
        ended.set()
        thread.join(PATIENCE)
    assert answer.error in ("ReadTimeout", "WriteTimeout")
    assert taken[0] < size / 2


def _quietly(act: Any) -> None:
    with contextlib.suppress(OSError):
        act()


def test_nobody_there_is_an_answer(receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    assert safe_post.post(url, {}, b"{}", allow_private=True).error == "ConnectError"
