"""What every request asks for, in memory: read from the database once a second, however many requests ask.

What was changed elsewhere, such as a token that was revoked by another process, counts within that second. The process
that changes it forgets what it knows, so that it counts there at once. Only what exists is kept: names that callers
make up fill no memory, and what was created a moment ago is found.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from enum import Enum
from threading import Lock
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Connection

from worker.database import Database
from worker.faults import is_transient

FRESH_SECONDS = 1.0
"""How long an answer of the database counts, from before the question."""
MOST = 10_000
"""Answers that are kept; one more takes the place of the one that was read longest ago."""

clock = time.monotonic

Key = TypeVar("Key")
Value = TypeVar("Value")


class NeedsDatabase(Enum):
    """What a function says that answers from memory alone, and cannot."""

    NEEDS_DATABASE = "needs the database"


NEEDS_DATABASE = NeedsDatabase.NEEDS_DATABASE


class _Remembered(Generic[Key, Value]):
    """The answers of one database, each with the time of its question, and the questions that are under way."""

    def __init__(self) -> None:
        self.answers: dict[Key, tuple[float, Value]] = {}
        self.asked: dict[Key, Future[Value | None]] = {}


_all: "list[Memory[Any, Any]]" = []


def forget_all() -> None:
    """Read everything again: what this process has just changed counts here at once."""
    for memory in _all:
        memory.forget()


class Memory(Generic[Key, Value]):
    """Answers of one kind, for all databases of this process."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        _all.append(self)
        self._of: WeakKeyDictionary[Database, _Remembered[Key, Value]] = WeakKeyDictionary()
        self._lock = Lock()

    def recall(self, database: Database, key: Key) -> Value | None:
        """What is known and fresh; never waits."""
        with self._lock:
            return self._recall(database, key)

    def find(self, database: Database, key: Key, read: Callable[[Connection], Value | None]) -> Value | None:
        """What is known and fresh, else what `read` finds. Of callers who ask at the same time one reads, for all.

        Raises:
            Exception: what `read` raised, for each of them.
        """
        with self._lock:
            known = self._recall(database, key)
            if known is not None:
                return known
            of = self._of.setdefault(database, _Remembered())
            asked = of.asked.get(key)
            if asked is None:
                mine: Future[Value | None] = Future()
                of.asked[key] = mine
        if asked is not None:
            return asked.result()
        return self._answer(database, key, read, mine)

    def read_again(self, database: Database, key: Key, read: Callable[[Connection], Value | None]) -> Value | None:
        """What `read` finds now, whatever is known."""
        with self._lock:
            mine = self._of.setdefault(database, _Remembered()).asked[key] = Future()
        return self._answer(database, key, read, mine)

    def forget(self) -> None:
        """Read everything again. A question that is under way may have been asked too early: its answer is not kept."""
        with self._lock:
            self._of.clear()

    def _recall(self, database: Database, key: Key) -> Value | None:
        of = self._of.get(database)
        known = of.answers.get(key) if of else None
        return known[1] if known and clock() < known[0] + FRESH_SECONDS else None

    def _answer(
        self,
        database: Database,
        key: Key,
        read: Callable[[Connection], Value | None],
        mine: "Future[Value | None]",
    ) -> Value | None:
        try:
            asked_at, value = _ask(database, read)
        except BaseException as error:
            self._keep(database, key, mine, None)
            mine.set_exception(error)
            raise
        self._keep(database, key, mine, None if value is None else (asked_at, value))
        mine.set_result(value)
        return value

    def _keep(
        self, database: Database, key: Key, mine: "Future[Value | None]", answer: tuple[float, Value] | None
    ) -> None:
        with self._lock:
            of = self._of.get(database)
            if of is None or of.asked.get(key) is not mine:  # forgotten meanwhile, or asked again
                return
            del of.asked[key]
            of.answers.pop(key, None)  # so that the newest stands last
            if answer is not None:
                of.answers[key] = answer
            if len(of.answers) > self._most:
                del of.answers[next(iter(of.answers))]


def _ask(database: Database, read: Callable[[Connection], Value | None]) -> tuple[float, Value | None]:
    """When it was asked, and what was found.

    Asked once more after a connection that was ended, which a rotated login or a failover does to all of a pool. Not
    longer: while the database is away, whoever waits here keeps a thread from others.
    """
    try:
        with database.begin() as connection:
            return clock(), read(connection)
    except Exception as error:
        if not is_transient(error):
            raise
    with database.begin() as connection:
        return clock(), read(connection)
