"""The server under the application, and how it stops: streams that would never end are ended first."""

import sys
from contextlib import suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI

from worker.config import Settings
from worker.queue.heartbeat import Heartbeat


class Server(uvicorn.Server):
    """uvicorn waits at a signal until every connection is done; a watcher of a long job never would be."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self._watchers = app.state.watchers
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=max(round(settings.shutdown_seconds), 1),
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._watchers.stop()
        super().handle_exit(sig, frame)


def serve(app: FastAPI, settings: Settings) -> None:
    """Answer until SIGTERM or SIGINT; then finish what is being answered, within `shutdown_seconds`."""
    server = Server(app, settings)
    heartbeat = Heartbeat(app.state.services.database, "web")
    heartbeat.start()
    try:
        with suppress(KeyboardInterrupt):
            server.run()  # uvicorn hands the signal on once it has stopped in order
    finally:
        heartbeat.stop()
    if not server.started:  # uvicorn has said why
        sys.exit(3)
