"""The server under the application, and how it stops: streams that would never end are ended first."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from uuid import uuid4

import structlog
import uvicorn
from fastapi import FastAPI

from worker.config import Settings
from worker.database import Database
from worker.errors import describe
from worker.ledger import processes

log = structlog.get_logger(__name__)

_HEARTBEAT = 3.0  # seconds


class Server(uvicorn.Server):
    """uvicorn waits at a signal until every connection is done; a watcher of a long job never would be."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self._watching = app.state.watching
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
        self._watching.stop()
        super().handle_exit(sig, frame)


def serve(app: FastAPI, settings: Settings) -> None:
    """Answer until SIGTERM or SIGINT; then finish what is being answered, within `shutdown_seconds`."""
    server = Server(app, settings)
    with _on_record(app.state.services.database), suppress(KeyboardInterrupt):
        server.run()  # uvicorn hands the signal on once it has stopped in order
    if not server.started:  # uvicorn has said why
        sys.exit(3)


@contextmanager
def _on_record(database: Database) -> Iterator[None]:
    """Be seen among what runs, until this ends."""
    id_, ended = uuid4(), threading.Event()

    def beat() -> None:
        while not ended.is_set():
            with _tried("heartbeat.failed"), database.begin() as connection:
                processes.record_alive(connection, id_, "web", 1)
            ended.wait(_HEARTBEAT)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_HEARTBEAT)
        with _tried("web.not_signed_off"), database.begin() as connection:
            processes.remove(connection, id_)


@contextmanager
def _tried(event: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        log.warning(event, error_class=describe(error)[0])
