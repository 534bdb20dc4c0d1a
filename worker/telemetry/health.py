"""A port on which worker and relay tell how they are: `/healthz`, `/readyz`, `/metrics`. The web process has its own.

Nothing here waits for the database: what the process knows of it by its heartbeats is told, so that a probe answers at
once also while PostgreSQL is away. `/healthz` fails only where a restart helps.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from worker.config import Settings
from worker.errors import SettingsError
from worker.telemetry import metrics

LATE_AFTER = 10.0
"""Seconds after which a heartbeat, which comes every three, is late: the process is not ready."""
HUNG_AFTER = 120.0
"""Seconds without a sign of life of a thread after which its process has to be started again."""
_CLIENT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Report:
    """An answer: whether all is well, and the parts."""

    ok: bool
    parts: dict[str, Any]


@contextmanager
def serving(settings: Settings, *, alive: Callable[[], Report], ready: Callable[[], Report]) -> Iterator[int]:
    """Answer on `health_port`, in threads of its own; the port, 0 for none.

    Raises:
        SettingsError: the port is in use.
    """
    if settings.health_port is None:
        yield 0
        return
    try:
        server = _Server((settings.host, settings.health_port), _Handler)
    except OSError as error:
        where = f"{settings.host}:{settings.health_port}"
        raise SettingsError(f"WITHDRAWALS_HEALTH_PORT: {where}: {error.strerror or 'cannot be used'}.") from None
    server.alive, server.ready = alive, ready
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    alive: Callable[[], Report]
    ready: Callable[[], Report]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nobody's concern."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _CLIENT_SECONDS
    server: _Server
    server_version = "withdrawals"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, metrics.CONTENT_TYPE, metrics.exposition())
        elif path == "/healthz":
            report = self.server.alive()
            self._tell(report, "ok" if report.ok else "hung")
        elif path == "/readyz":
            report = self.server.ready()
            self._tell(report, "ready" if report.ok else "not_ready")
        else:
            self._answer(404, "text/plain; charset=utf-8", b"Use /healthz, /readyz or /metrics.\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the library has it
        """Probes come every few seconds: they are not logged."""

    def _tell(self, report: Report, status: str) -> None:
        body = json.dumps({"status": status, **report.parts}).encode()
        self._answer(200 if report.ok else 503, "application/json", body)

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
