"""A lean HTTP client in a process of its own: it sends requests that were made beforehand, and times the answers.

A general client would need more of the processor than the server that it measures. This one knows one thing: an
answer ends `Content-Length` bytes after its headers.
"""

import asyncio
import io
import multiprocessing
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import IO

_PATIENCE = 300.0
"""Seconds after which a storm whose answers do not come is a failure."""
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)


@dataclass(slots=True)
class Storm:
    """What came of one storm. Times are in seconds, `began` and `ended` on the machine's monotonic clock."""

    began: float = 0.0
    ended: float = 0.0
    cpu: float = 0.0
    """Seconds of processor time that the client took."""
    statuses: Counter[int] = field(default_factory=Counter)
    """How many answers had this status; 0: the connection was closed without one."""
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.statuses.total() / (self.ended - self.began)

    @property
    def client_share(self) -> float:
        """Share of one core that the client took. Near 1, the client would be what is measured."""
        return self.cpu / (self.ended - self.began)

    def latency(self, share: float) -> float:
        """Milliseconds below which this share of the answers came."""
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000


def fire(port: int, requests: Sequence[bytes], *, connections: int) -> Storm:
    """Send all requests over this many connections, each with one request at a time, and wait for every answer."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_fire, port, requests, connections).result()


def make_request(path: str, headers: dict[str, str], body: bytes) -> bytes:
    """The bytes of one POST of JSON."""
    lines = [f"POST {path} HTTP/1.1", "Host: bench", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def id_file(ids: Iterable[int]) -> IO[bytes]:
    """A file with a column of ids, as people send it."""
    return io.BytesIO("\n".join(["enrolment_id", *map(str, ids)]).encode())


def _fire(port: int, requests: Sequence[bytes], connections: int) -> Storm:
    return asyncio.run(_Sender(requests).run(port, connections))


class _Sender:
    def __init__(self, requests: Sequence[bytes]) -> None:
        self.storm = Storm()
        self.requests = iter(requests)
        self._left = len(requests)
        self._done = asyncio.Event()

    async def run(self, port: int, connections: int) -> Storm:
        loop = asyncio.get_running_loop()
        opened = [
            await loop.create_connection(lambda: _Connection(self), "127.0.0.1", port) for _ in range(connections)
        ]
        cpu, self.storm.began = time.process_time(), time.monotonic()
        for transport, connection in opened:
            connection.begin(transport)
        await asyncio.wait_for(self._done.wait(), _PATIENCE)
        self.storm.ended, self.storm.cpu = time.monotonic(), time.process_time() - cpu
        for transport, _ in opened:
            transport.close()
        return self.storm

    def record(self, status: int, seconds: float) -> None:
        self.storm.statuses[status] += 1
        self.storm.latencies.append(seconds)
        self._left -= 1
        if self._left == 0:
            self._done.set()


class _Connection(asyncio.Protocol):
    def __init__(self, sender: _Sender) -> None:
        self._sender = sender
        self._received = b""
        self._sent_at = 0.0
        self._waiting = False

    def begin(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._next()

    def _next(self) -> None:
        request = next(self._sender.requests, None)
        self._waiting = request is not None
        if request is not None:
            self._sent_at = time.monotonic()
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        found = _LENGTH.search(head) if separator else None
        if not separator or (found and len(body) < int(found[1])):
            return
        self._received = b""
        self._sender.record(int(head[9:12]), time.monotonic() - self._sent_at)
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting:  # what the other connections send is still measured; this request counts as not answered
            self._sender.record(0, time.monotonic() - self._sent_at)
            for _ in self._sender.requests:
                self._sender.record(0, 0.0)
