"""Limits on connections, so that slow clients do not pile up: each costs memory, a file descriptor and a place.

uvicorn closes a connection that is idle between two requests, and no other: a client that never ends its request, or
never reads its answer, would be kept for ever. A proxy in front has such limits too; the service does not rely on one.
"""

import asyncio
from typing import ClassVar

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from worker.web.problems import RETRY_AFTER, problem

HEAD_SECONDS = 20.0
"""Time limit of a request's line and headers, also for a connection on which nothing was sent yet."""
BODY_SECONDS = 30.0
"""How often a body must have brought `LEAST_BYTES` more; a pause of the server itself does not count."""
ANSWER_SECONDS = 60.0
"""How often a client must have read `LEAST_BYTES` more of an answer that waits for it."""
LEAST_BYTES = 4096
LONGEST_HEAD = 65_536
"""Bytes of a request's line and headers together; what arrives in one piece may be a few times longer."""
MOST_WAITING = 500
"""Connections of one process that have not sent their headers. One more ends the one that has waited longest."""
MOST_CONNECTIONS = 4096
"""Connections of one process; one more gets 503. A thousand of them may watch jobs."""


_BUSY = problem(
    503,
    "unavailable",
    "Too many connections are open here. Nothing was accepted. Try again in a moment, with the same key.",
    headers={"Retry-After": str(RETRY_AFTER), "Connection": "close"},
)


async def _answer_busy(scope: Scope, receive: Receive, send: Send) -> None:
    await _BUSY(scope, receive, send)


class LimitedConnection(H11Protocol):
    """A connection of uvicorn with time limits. h11 also bounds the length of headers, which other parsers do not."""

    waiting: ClassVar[dict["LimitedConnection", None]] = {}
    """Connections of this process that have not sent their headers, the oldest first."""

    _timer: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None
    _received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        transport.set_write_buffer_limits(high=0)  # so that the transport tells of every answer that waits
        super().connection_made(transport)
        self._limit_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._reading is not None:
            self._reading.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Answer what has arrived. uvicorn's own limit of connections would answer in plain text, without a time."""
        full = len(self.connections) >= MOST_CONNECTIONS or len(self.tasks) >= MOST_CONNECTIONS
        self.app = _answer_busy if full else self.config.loaded_app
        super().handle_events()

    def data_received(self, data: bytes) -> None:
        waited = self._waits_for_a_head()
        self._received += len(data)
        super().data_received(data)
        if not self._waits_for_a_head():
            if waited:
                self._limit_body()
        elif self._timer is None:  # the first bytes of the next request
            self._limit_head()

    def on_response_complete(self) -> None:
        self._stop_timer()  # uvicorn's own limit follows, until the next request begins
        super().on_response_complete()
        if not self._waits_for_a_head():  # the next request had come already
            self._limit_body()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._limit_answer()

    def resume_writing(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        super().resume_writing()

    def _waits_for_a_head(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _limit_head(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)
        self.waiting[self] = None
        if len(self.waiting) > MOST_WAITING:
            oldest = next(iter(self.waiting))
            oldest._stop_timer()
            oldest.transport.abort()

    def _limit_body(self) -> None:
        self._stop_timer()
        if self.cycle.more_body:
            self._received = 0
            self._timer = self.loop.call_later(BODY_SECONDS, self._check_body)

    def _check_body(self) -> None:
        server_waits = self.flow.read_paused or self.cycle.waiting_for_100_continue
        if self._received < LEAST_BYTES and self.cycle.more_body and not server_waits:
            self.transport.abort()
        else:
            self._limit_body()

    def _limit_answer(self) -> None:
        unread = self.transport.get_write_buffer_size()
        self._reading = self.loop.call_later(ANSWER_SECONDS, self._check_answer, unread)

    def _check_answer(self, unread: int) -> None:
        if self.transport.get_write_buffer_size() > unread - LEAST_BYTES:
            self.transport.abort()  # to close in order would wait until the client has read what is left
        else:
            self._limit_answer()

    def _stop_timer(self) -> None:
        self.waiting.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
