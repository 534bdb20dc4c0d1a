"""Clients that never end a request and never read an answer are left in time, and keep nobody else waiting."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from uvicorn.server import ServerState

from tests.world import PATIENCE, eventually
from worker.config import Settings
from worker.web import connections
from worker.web.connections import LimitedConnection
from worker.web.server import Server

HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
TO_A_HOOK = b"POST /hooks/hr/x HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"  # reads the body first
POST = TO_A_HOOK + b"Content-Length: 100000\r\n\r\n"


@dataclass
class Clock:
    """A loop whose time goes on only when a test says so, and that runs no request."""

    now: float = 0.0
    timers: list[Any] = field(default_factory=list)

    def call_later(self, delay: float, act: Callable[..., None], *args: Any) -> "Timer":
        timer = Timer(self.now + delay, act, args)
        self.timers.append(timer)
        return timer

    def create_task(self, coroutine: Any, **_: Any) -> Any:
        coroutine.close()
        return asyncio.Future(loop=self._never)

    def go_on(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [timer for timer in self.timers if not timer.cancelled and timer.at <= end]:
            first = min(due, key=lambda timer: timer.at)
            self.timers.remove(first)
            self.now = first.at
            first.act(*first.args)
        self.now = end

    _never = asyncio.new_event_loop()


@dataclass
class Timer:
    at: float
    act: Callable[..., None]
    args: tuple[Any, ...]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class Wire:
    """A transport that keeps what is written, as long as nobody reads it."""

    def __init__(self) -> None:
        self.aborted = self.closed = False
        self.unread = 0

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def get_write_buffer_size(self) -> int:
        return self.unread

    def write(self, data: bytes) -> None:
        self.unread += len(data)

    def get_extra_info(self, *_: Any) -> None:
        return None

    def set_write_buffer_limits(self, **_: Any) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


@dataclass
class Client:
    """One connection to a server without a network."""

    clock: Clock
    wire: Wire
    connection: LimitedConnection

    def sends(self, data: bytes) -> None:
        if data:  # nothing at all would be the end of the stream
            self.connection.data_received(data)

    def is_answered(self) -> None:
        cycle = self.connection.cycle
        cycle.response_started = cycle.response_complete = True
        import h11

        for event in (h11.Response(status_code=200, headers=[("content-length", "0")]), h11.EndOfMessage()):
            self.connection.conn.send(event)
        cycle.on_response()


@pytest.fixture
def connect(environment: Settings, app: FastAPI) -> Iterator[Callable[[], Client]]:
    clock, state = Clock(), ServerState()
    server = Server(app, environment)

    def make() -> Client:
        wire = Wire()
        connection = LimitedConnection(server.config, state, {}, _loop=clock)  # type: ignore[arg-type]
        connection.connection_made(wire)  # type: ignore[arg-type]
        return Client(clock, wire, connection)

    yield make
    LimitedConnection.waiting.clear()


@pytest.mark.parametrize("sent", [b"", b"GET", HEAD[:-2]])
def test_a_request_that_never_begins_or_never_ends_is_left(connect: Callable[[], Client], sent: bytes) -> None:
    client = connect()
    client.sends(sent)
    client.clock.go_on(connections.HEAD_SECONDS - 1)
    assert not client.wire.aborted
    client.clock.go_on(2)
    assert client.wire.aborted


def test_a_byte_now_and_then_does_not_give_a_request_more_time(connect: Callable[[], Client]) -> None:
    client = connect()
    for byte in HEAD[:-2]:
        client.clock.go_on(connections.HEAD_SECONDS / 10)
        client.sends(bytes([byte]))
    assert client.wire.aborted


def test_the_second_request_of_a_connection_has_the_same_limit(connect: Callable[[], Client]) -> None:
    client = connect()
    client.sends(HEAD)
    client.clock.go_on(3600)
    assert not client.wire.aborted, "an answer may take its time"
    client.is_answered()
    client.sends(HEAD[:-2])
    client.clock.go_on(connections.HEAD_SECONDS + 1)
    assert client.wire.aborted


def test_a_body_that_stops_is_left_and_one_that_goes_on_is_not(connect: Callable[[], Client]) -> None:
    client = connect()
    client.sends(POST)
    for _ in range(10):
        client.sends(b"x" * connections.LEAST_BYTES)
        client.clock.go_on(connections.BODY_SECONDS)
        assert not client.wire.aborted
    client.sends(b"x")
    client.clock.go_on(connections.BODY_SECONDS + 1)
    assert client.wire.aborted


def test_a_client_that_the_server_keeps_waiting_is_not_left(connect: Callable[[], Client]) -> None:
    client = connect()
    client.sends(POST)
    client.connection.flow.read_paused = True
    client.clock.go_on(connections.BODY_SECONDS * 5)
    assert not client.wire.aborted
    waiting = connect()
    waiting.sends(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    waiting.clock.go_on(connections.BODY_SECONDS * 5)
    assert not waiting.wire.aborted


def test_the_rest_of_a_body_after_its_answer_has_a_limit(connect: Callable[[], Client]) -> None:
    client = connect()
    client.sends(POST)
    client.is_answered()
    for _ in range(10):
        client.clock.go_on(connections.HEAD_SECONDS / 5)
        client.sends(b"x")
    assert client.wire.aborted


def test_an_answer_that_nobody_reads_is_left_and_one_that_is_read_is_not(connect: Callable[[], Client]) -> None:
    client = connect()
    client.sends(HEAD)
    client.wire.unread = 1_000_000
    client.connection.pause_writing()
    for _ in range(5):
        client.wire.unread -= connections.LEAST_BYTES
        client.clock.go_on(connections.ANSWER_SECONDS)
        assert not client.wire.aborted
    client.wire.unread = 0
    client.connection.resume_writing()
    client.clock.go_on(connections.ANSWER_SECONDS * 5)
    assert not client.wire.aborted
    client.wire.unread = 10
    client.connection.pause_writing()
    client.clock.go_on(connections.ANSWER_SECONDS + 1)
    assert client.wire.aborted


def test_too_many_connections_that_say_nothing_cost_the_oldest_its_place(
    connect: Callable[[], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST_WAITING", 3)
    silent = [connect() for _ in range(3)]
    served = connect()
    assert [client.wire.aborted for client in silent] == [True, False, False]
    served.sends(HEAD)
    connect()
    assert [client.wire.aborted for client in silent] == [True, False, False], "one of the four has begun its request"
    silent[1].connection.connection_lost(None)
    connect()
    assert not silent[2].wire.aborted


def test_a_lost_connection_leaves_no_timer(connect: Callable[[], Client]) -> None:
    for sent in (b"", POST):
        client = connect()
        client.sends(sent)
        client.connection.pause_writing()
        client.connection.connection_lost(ConnectionResetError())
        assert [timer for timer in client.clock.timers if not timer.cancelled] == []
        assert client.connection not in LimitedConnection.waiting


@dataclass(frozen=True)
class Live:
    """A server on a port, with limits of a moment."""

    server: Server
    port: int

    def dial(self) -> socket.socket:
        dialled = socket.socket()
        dialled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # the sooner an unread answer is noticed
        dialled.settimeout(PATIENCE)
        dialled.connect(("127.0.0.1", self.port))
        return dialled

    def send(self, connection: socket.socket, data: bytes) -> None:
        with suppress(ConnectionError):  # on a busy machine its time may be over before it has begun
            connection.sendall(data)

    def answers_others(self) -> bool:
        """Whether others are answered; one whose own moment is over before it has asked asks again."""
        return eventually(self._answers)

    def _answers(self) -> bool:
        with suppress(httpx2.TransportError):
            return httpx2.get(f"http://127.0.0.1:{self.port}/healthz", timeout=PATIENCE).status_code == 200
        return False


@pytest.fixture
def live(app: FastAPI, environment: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    for name in ("HEAD_SECONDS", "BODY_SECONDS", "ANSWER_SECONDS"):
        monkeypatch.setattr(connections, name, 0.3)
    server = Server(app, environment.model_copy(update={"port": 0}))
    monkeypatch.setattr(server.config, "timeout_keep_alive", 0.3)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started)
    yield Live(server, server.servers[0].sockets[0].getsockname()[1])
    app.state.watchers.stop()
    server.should_exit = True
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    "sent",
    {
        "nothing": b"",
        "half of the headers": HEAD[:-2],
        "no body": POST,
        "a part of a body": POST + b"{",
        "a chunk without an end": TO_A_HOOK + b"Transfer-Encoding: chunked\r\n\r\nffff\r\nx",
        "the second request": HEAD + HEAD[:-2],
        "what is not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 3,
    }.items(),
    ids=lambda item: item[0],
)
def test_a_slow_client_is_left_while_others_are_answered(live: Live, sent: tuple[str, bytes]) -> None:
    slow = [live.dial() for _ in range(20)]
    for connection in slow:
        live.send(connection, sent[1])
    assert live.answers_others()
    for connection in slow:
        try:
            while connection.recv(65_536):  # until the server has closed it
                pass
        except ConnectionResetError:
            pass
        connection.close()
    assert live.answers_others()
    eventually(lambda: not live.server.server_state.connections)


def test_a_client_that_never_reads_is_left_while_others_are_answered(live: Live) -> None:
    deaf = [live.dial() for _ in range(5)]
    for connection in deaf:  # the document is long; so many of them fill every buffer on the way
        live.send(connection, b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
    assert live.answers_others()
    eventually(lambda: not live.server.server_state.connections)
    for connection in deaf:
        connection.close()
    assert live.answers_others()
