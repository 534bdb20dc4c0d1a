"""What may be written a little later, and in one go for many: no request waits for it.

It is for what nobody misses. What cannot be written is left out.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from threading import Event, Lock, Thread
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

import structlog
from sqlalchemy import Connection

from worker.database import Database
from worker.faults import describe

log = structlog.get_logger(__name__)

T = TypeVar("T", bound=Hashable)


class WriteBehind(Generic[T]):
    """Counts what is noted, and writes it in the background; the rest before the connections are closed."""

    def __init__(
        self, name: str, write: Callable[[Connection, Counter[T]], None], *, pause: Callable[[], float] = lambda: 0.0
    ) -> None:
        """`name`: of the thread. `write`: how often each was noted. `pause`: seconds between two writes."""
        self._name, self._write, self._pause = name, write, pause
        self._lock = Lock()
        self._of: WeakKeyDictionary[Database, _Waiting[T]] = WeakKeyDictionary()

    def note(self, database: Database, what: T) -> None:
        """Count it; it is written soon."""
        with self._lock:
            waiting = self._of.get(database)
            if waiting is None:
                waiting = self._of[database] = _Waiting()
                database.before_close(lambda: self._end(waiting))
            waiting.counts[what] += 1
            if waiting.writer is None:
                waiting.writer = Thread(target=self._run, args=[database, waiting], name=self._name, daemon=True)
                waiting.writer.start()

    def _run(self, database: Database, waiting: "_Waiting[T]") -> None:
        while True:
            with self._lock:
                counts, waiting.counts = waiting.counts, Counter()
                if not counts:
                    waiting.writer = None
                    return
            try:
                with database.begin() as connection:
                    self._write(connection, counts)
            except Exception as error:
                log.warning("write_behind.left_out", name=self._name, error_class=describe(error)[0])
            waiting.closing.wait(self._pause())

    def _end(self, waiting: "_Waiting[T]") -> None:
        waiting.closing.set()
        with self._lock:
            writer = waiting.writer
        if writer is not None:
            writer.join()


class _Waiting(Generic[T]):
    """What is to be written to one database."""

    def __init__(self) -> None:
        self.counts: Counter[T] = Counter()
        self.writer: Thread | None = None
        self.closing = Event()
