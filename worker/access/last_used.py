"""When tokens and sessions were last used, written behind the requests, at most once a minute each."""

import time
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from weakref import WeakKeyDictionary

from sqlalchemy import Connection

from worker.database import Database
from worker.write_behind import WriteBehind

EVERY = 60.0
"""Seconds in which one use is written."""

Record = Callable[[Connection, Sequence[int]], None]
"""Writes that the rows with these ids are used."""
Use = tuple[Record, int]

clock = time.monotonic


def _write(connection: Connection, uses: Iterable[Use]) -> None:
    for record in {record for record, _ in uses}:
        record(connection, sorted(id_ for one, id_ in uses if one is record))


_behind: WriteBehind[Use] = WriteBehind("last-used", _write)
_lock = Lock()
_noted: WeakKeyDictionary[Database, dict[Use, float]] = WeakKeyDictionary()


def note(database: Database, record: Record, id_: int) -> None:
    """Let `record` write, soon, that a row is used."""
    now, use = clock(), (record, id_)
    with _lock:
        noted = _noted.setdefault(database, {})
        if now < noted.get(use, -EVERY) + EVERY:
            return
        noted[use] = now
    _behind.note(database, use)
