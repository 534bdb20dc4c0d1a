"""When tokens were last used, written in the background at most once a minute a token: no request waits for it."""

import time
from threading import Lock, Thread
from weakref import WeakKeyDictionary

import structlog

from worker.database import Database
from worker.errors import describe
from worker.ledger import tokens

log = structlog.get_logger(__name__)

EVERY = 60.0
"""Seconds in which one use of a token is written."""

clock = time.monotonic


class _Uses:
    """The uses of one database's tokens that are to be written."""

    def __init__(self) -> None:
        self.written: dict[int, float] = {}
        self.waiting: set[int] = set()
        self.writer: Thread | None = None


_lock = Lock()
_uses: WeakKeyDictionary[Database, _Uses] = WeakKeyDictionary()


def note(database: Database, token_id: int) -> None:
    """Let it be written, soon, that a token is used."""
    now = clock()
    with _lock:
        uses = _uses.get(database)
        if uses is None:
            uses = _uses[database] = _Uses()
            database.before_close(lambda: _end(uses))
        if now < uses.written.get(token_id, -EVERY) + EVERY:
            return
        uses.written[token_id] = now
        uses.waiting.add(token_id)
        if uses.writer is None:
            uses.writer = Thread(target=_write, args=[database, uses], name="last-used", daemon=True)
            uses.writer.start()


def _write(database: Database, uses: _Uses) -> None:
    """Write what waits, until nothing does. What cannot be written is left out: the next use comes in a minute."""
    while True:
        with _lock:
            token_ids, uses.waiting = sorted(uses.waiting), set()
            if not token_ids:
                uses.writer = None
                return
        try:
            with database.begin() as connection:
                tokens.record_uses(connection, token_ids)
        except Exception as error:
            log.warning("tokens.use_not_recorded", error_class=describe(error)[0])


def _end(uses: _Uses) -> None:
    with _lock:
        writer = uses.writer
    if writer is not None:
        writer.join()
