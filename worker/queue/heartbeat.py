"""The one heartbeat: every process of the service records that it lives, and signs off when it ends."""

import threading
import time
from collections.abc import Callable
from uuid import uuid4

import structlog

from worker.database import Database, notify_after_commit
from worker.faults import describe
from worker.ledger import processes
from worker.telemetry import metrics

log = structlog.get_logger(__name__)

EVERY = 3.0
"""Seconds between two heartbeats. The relay counts the threads of workers seen in the last 15 seconds."""


class Heartbeat:
    """Records one process, from `start` until `stop`."""

    def __init__(self, database: Database, kind: str, *, threads: int = 1) -> None:
        """`kind`: `web`, `worker` or `relay`. `threads`: chunks that it can decide at once."""
        self._database = database
        self._kind = kind
        self._threads = threads
        self.process_id = uuid4()
        self._recorded = 0.0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, *, after_each: Callable[[], None] = lambda: None) -> None:
        """Beat in a thread of its own. The first beat notifies the relay: there is room for hints now.

        `after_each`: called after every beat, in the same thread.
        """
        self._thread = threading.Thread(target=self._run, args=[after_each], name="heartbeat", daemon=True)
        self._thread.start()

    def beat(self, *, notify: bool = False) -> None:
        """Record this process as alive, once."""
        with self._database.begin(autocommit=True) as connection:
            processes.record_alive(connection, self.process_id, self._kind, self._threads)
            if notify:
                notify_after_commit(connection)
        self._recorded = time.monotonic()
        metrics.beat(self._kind, of="database")

    def is_recorded(self, within: float) -> bool:
        """Whether the database has taken a beat in the last `within` seconds."""
        return self._recorded > 0 and time.monotonic() - self._recorded < within

    def stop(self) -> None:
        """End the thread, and take the process off the record; a database out of reach is logged."""
        self._ended.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(EVERY)
        try:
            with self._database.begin() as connection:
                processes.remove(connection, self.process_id)
        except Exception as error:
            log.warning("heartbeat.not_signed_off", kind=self._kind, error_class=describe(error)[0])

    def _run(self, after_each: Callable[[], None]) -> None:
        notify = self._kind == "worker"
        while not self._ended.is_set():
            metrics.beat(self._kind, of="thread")
            metrics.sample()
            try:
                self.beat(notify=notify)
                notify = False
            except Exception as error:
                log.warning("heartbeat.failed", kind=self._kind, error_class=describe(error)[0])
            after_each()
            self._ended.wait(EVERY)
