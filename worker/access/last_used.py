"""When tokens and sessions were last used, written in the background at most once a minute each: no request waits."""

import time
from collections.abc import Callable, Sequence
from threading import Lock, Thread
from weakref import WeakKeyDictionary

import structlog
from sqlalchemy import Connection

from worker.database import Database
from worker.faults import describe

log = structlog.get_logger(__name__)

EVERY = 60.0
"""Seconds in which one use is written."""

Record = Callable[[Connection, Sequence[int]], None]
"""Writes that the rows with these ids are used."""

clock = time.monotonic


class _Uses:
    """The uses of one database's rows that are to be written."""

    def __init__(self) -> None:
        self.written: dict[tuple[Record, int], float] = {}
        self.waiting: set[tuple[Record, int]] = set()
        self.writer: Thread | None = None


_lock = Lock()
_uses: WeakKeyDictionary[Database, _Uses] = WeakKeyDictionary()


def note(database: Database, record: Record, id_: int) -> None:
    """Let `record` write, soon, that a row is used."""
    now, use = clock(), (record, id_)
    with _lock:
        uses = _uses.get(database)
        if uses is None:
            uses = _uses[database] = _Uses()
            database.before_close(lambda: _end(uses))
        if now < uses.written.get(use, -EVERY) + EVERY:
            return
        uses.written[use] = now
        uses.waiting.add(use)
        if uses.writer is None:
            uses.writer = Thread(target=_write, args=[database, uses], name="last-used", daemon=True)
            uses.writer.start()


def _write(database: Database, uses: _Uses) -> None:
    """Write what waits, until nothing does. What cannot be written is left out: the next use comes in a minute."""
    while True:
        with _lock:
            waiting, uses.waiting = uses.waiting, set()
            if not waiting:
                uses.writer = None
                return
        try:
            with database.begin() as connection:
                for record in {record for record, _ in waiting}:
                    record(connection, sorted(id_ for one, id_ in waiting if one is record))
        except Exception as error:
            log.warning("use.not_recorded", error_class=describe(error)[0])


def _end(uses: _Uses) -> None:
    with _lock:
        writer = uses.writer
    if writer is not None:
        writer.join()
