"""Notifications after commits: however many transactions commit, a process sends at most one in ten milliseconds.

A transaction that notifies takes a lock that no other such transaction may hold while it commits: PostgreSQL would put
all of them in one line. So the notification is no part of the transaction. One that is lost (the process died between
the two) delays work until the relay's next round, and loses none.
"""

import threading
import time
from collections.abc import Callable

import structlog

from worker.faults import describe

log = structlog.get_logger(__name__)

PAUSE = 0.01
"""Seconds between two notifications of a process; the first after a lull goes at once."""
_ATTEMPTS = 2
"""The second is for a connection of the pool that turns out to be broken."""


class Notifier:
    """One thread that notifies for all threads of a process. It starts with the first notification."""

    def __init__(self, send: Callable[[], None]) -> None:
        """`send` notifies, on a connection of its own."""
        self._send = send
        self._wanted = threading.Event()
        self._closed = False
        self._lock = threading.Lock()
        """Held while the flag is taken and the notification is sent: a flush ends after what it flushes."""
        self._thread: threading.Thread | None = None
        self._sent_at = 0.0
        self._turns = threading.Lock()

    def take_turn(self) -> bool:
        """Whether the caller is to notify by itself, in the message that commits: nobody has within the pause, or is
        about to. Without an answer it calls `notify` as well.
        """
        with self._turns:
            if self._wanted.is_set() or time.monotonic() - self._sent_at < PAUSE:
                return False
            self._sent_at = time.monotonic()
            return True

    def notify(self) -> None:
        """Notify soon, without waiting for it. Call it after the commit."""
        self._wanted.set()
        if self._closed:
            self.flush()
        elif self._thread is None:
            self._start()

    def flush(self) -> None:
        """Notify now, if anybody has asked for it; a database out of reach is logged."""
        with self._lock:
            if self._wanted.is_set():
                self._wanted.clear()
                self._sent_at = time.monotonic()
                self._try_to_send()

    def close(self) -> None:
        """Send what was asked for, and end the thread."""
        self._closed = True
        self.flush()
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._wanted.set()
            thread.join()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._serve, name="notifier", daemon=True)
                self._thread.start()

    def _serve(self) -> None:
        while not self._closed:  # asked before each wait: the flush may take the flag that `close` has set
            self._wanted.wait()
            self.flush()
            time.sleep(PAUSE)

    def _try_to_send(self) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._send()
            except Exception as error:
                if attempt == _ATTEMPTS:
                    log.warning("notification.not_sent", error_class=describe(error)[0])
            else:
                return
