"""The server that runs the application, and its shutdown: endless streams are ended first."""

import socket
import sys
import threading
from contextlib import suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI

from worker.config import Settings
from worker.garbage import collect_seldom
from worker.jobs.singles import warm_up
from worker.queue.heartbeat import Heartbeat
from worker.web.connections import LONGEST_HEAD, LimitedConnection


class Server(uvicorn.Server):
    """uvicorn waits for every connection at shutdown; a stream of a long job's progress would not end."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self._watchers = app.state.watchers
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=LimitedConnection,
                ws="none",
                h11_max_incomplete_event_size=LONGEST_HEAD,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # the application knows which proxies are trusted
                timeout_graceful_shutdown=max(round(settings.shutdown_seconds), 1),
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._watchers.stop()
        super().handle_exit(sig, frame)


def serve(app: FastAPI, settings: Settings, listening: socket.socket | None = None) -> None:
    """Answer until SIGTERM or SIGINT; then finish the requests in progress, within `shutdown_seconds`.

    `listening`: a socket that this process shares with others.
    """
    server = Server(app, settings)
    heartbeat = Heartbeat(app.state.services.database, "web")
    heartbeat.start()
    collect_seldom()
    threading.Thread(target=warm_up, args=[app.state.services.door], name="warm up", daemon=True).start()
    try:
        with suppress(KeyboardInterrupt):
            server.run([listening] if listening else None)  # uvicorn raises the signal again after a graceful stop
    finally:
        heartbeat.stop()
    if not server.started:  # uvicorn has logged the reason
        sys.exit(3)
