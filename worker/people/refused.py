"""Requests that were refused at the address of an HR source, counted for the source's page.

Anybody can send them, as many as they like. So they are counted in memory, by source and cause alone, and one thread
writes the counts in the background, at most once a second. What was sent is not kept.
"""

from collections import Counter
from threading import Event, Lock, Thread
from weakref import WeakKeyDictionary

import structlog

from worker.database import Database
from worker.faults import describe
from worker.ledger import hr_sources
from worker.ledger.hr_sources import Refusal

log = structlog.get_logger(__name__)

EVERY = 1.0
"""Seconds between two writes."""


class _Counts:
    """What was refused at one database's sources and is to be written."""

    def __init__(self) -> None:
        self.waiting: Counter[tuple[int, Refusal]] = Counter()
        self.writer: Thread | None = None
        self.closing = Event()


_lock = Lock()
_counts: WeakKeyDictionary[Database, _Counts] = WeakKeyDictionary()


def note(database: Database, source_id: int, why: Refusal) -> None:
    """Count a refused request; it is written soon."""
    with _lock:
        counts = _counts.get(database)
        if counts is None:
            counts = _counts[database] = _Counts()
            database.before_close(lambda: _end(counts))
        counts.waiting[source_id, why] += 1
        if counts.writer is None:
            counts.writer = Thread(target=_write, args=[database, counts], name="refused", daemon=True)
            counts.writer.start()


def _write(database: Database, counts: _Counts) -> None:
    """Write what waits, until nothing does. What cannot be written is left out: it is a hint, and no record."""
    while True:
        with _lock:
            waiting, counts.waiting = counts.waiting, Counter()
            if not waiting:
                counts.writer = None
                return
        try:
            with database.begin() as connection:
                hr_sources.record_refusals(connection, waiting)
        except Exception as error:
            log.warning("refusal.not_recorded", error_class=describe(error)[0])
        counts.closing.wait(EVERY)


def _end(counts: _Counts) -> None:
    counts.closing.set()
    with _lock:
        writer = counts.writer
    if writer is not None:
        writer.join()
