"""Sessions of PostgreSQL that stay from one test to the next.

A new session reads the catalogue of every table that it meets, which costs more than most tests do. Whatever a test has
left in a session (settings, role, plans, temporary tables, locks) is discarded before it is kept, and
the service prepares it like a new one.
"""

import select
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
import sqlalchemy
from psycopg.pq import TransactionStatus
from sqlalchemy.util import LRUCache

from worker.config import Settings
from worker.database import Database

Session = psycopg.Connection[Any]

# All of DISCARD ALL but DEALLOCATE ALL: the driver goes on counting on the statements that it has prepared. In one
# message, because it is sent for two or three sessions after every test. A test may compare counters.
_FORGET = """SELECT pg_stat_force_next_flush(); CLOSE ALL; RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL;
    UNLISTEN *; SELECT pg_advisory_unlock_all(); DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES"""
_MOST = 4
"""Sessions that are kept of one way to connect; a test seldom needs more."""


def have_patience(settings: Settings) -> Settings:
    """A lease of half an hour: who waits for a lock waits three minutes, however slowly the test goes on meanwhile."""
    return settings.model_copy(update={"lease_seconds": 1800.0})


def give_up_waiting(database: Database, seconds: float) -> None:
    """Let whoever waits for a lock through these connections give up after so long.

    A short lease would do that, too. But then every statement would have little time, and a session between two of its
    statements, which a busy machine takes from them.
    """

    def limit(session: Session, _: object) -> None:
        session.execute(f"SET lock_timeout = {seconds * 1000:.0f}")
        session.commit()

    sqlalchemy.event.listen(database.engine, "connect", limit)


class _Compiled(LRUCache[Any, Any]):
    """Statements as SQLAlchemy has compiled them, for all engines: each test has others, and the same server."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(key[1:], default)  # the first part is the engine's dialect

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key[1:], value)


class Sessions:
    """Makes a test's `Database` with sessions of earlier tests, and keeps them for later ones."""

    def __init__(self, host: str) -> None:
        """`host`: of the server. Sessions through a pooler are not kept."""
        self._host = host
        self._kept: defaultdict[str, list[Session]] = defaultdict(list)
        self._addresses: WeakKeyDictionary[Session, str] = WeakKeyDictionary()
        """How each session was connected: kept sessions are for the same."""
        self._compiled = _Compiled(4000)
        self._server: dict[str, Any] = {}
        """What SQLAlchemy has found out about the server, as attributes of a dialect."""

    @contextmanager
    def database(self, settings: Settings, **options: Any) -> Iterator[Database]:
        """A `Database` of one test. `options`: those of `Database`."""
        made = Database(settings, **options)
        made.engine.update_execution_options(compiled_cache=self._compiled)
        self._initialise_once(made.engine.dialect)
        used: list[Session] = []

        def take(*given: Any) -> Session:
            used.append(self._take(*given))
            return used[-1]

        sqlalchemy.event.listen(made.engine, "do_connect", take)
        try:
            yield made
        finally:
            # Not sooner: what the test itself closes is to be closed.
            made.engine.dialect.do_close = self._keep  # type: ignore[assignment, method-assign]
            made.close()
            self._close_lost(used)

    def processes(self, name: str) -> list[int]:
        """The server's processes of the sessions that are kept for a database."""
        return [one.info.backend_pid for one in self._of(name)]

    def close(self, name: str) -> None:
        """Close the sessions that are kept for a database."""
        for one in self._of(name):
            self._kept[self._addresses[one]].remove(one)
            one.close()

    def _close_lost(self, used: list[Session]) -> None:
        """Close what a failed test has not given back: found open later, it would make another test fail."""
        kept = {id(one) for those in self._kept.values() for one in those}
        for one in used:
            if id(one) not in kept:
                one.close()

    def _of(self, name: str) -> list[Session]:
        return [one for kept in self._kept.values() for one in kept if one.info.dbname == name]

    def _initialise_once(self, dialect: Any) -> None:
        """Let the first engine ask what the server is, and tell the others."""
        ask = dialect.initialize

        def initialise(connection: sqlalchemy.Connection) -> None:
            if not self._server:
                before = dict(vars(dialect))
                ask(connection)
                self._server = {name: value for name, value in vars(dialect).items() if before.get(name) is not value}
            vars(dialect).update(self._server)

        dialect.initialize = initialise

    def _take(self, dialect: Any, _: object, arguments: list[Any], parameters: dict[str, Any]) -> Session:
        # SQLAlchemy's context, how values are adapted, is one for each engine, and the same in all.
        address = repr(sorted((name, value) for name, value in parameters.items() if name != "context"))
        kept = self._kept[address]
        while kept:
            session = kept.pop()
            if not select.select([session.fileno()], [], [], 0)[0]:  # else the server has closed it meanwhile
                return session
            session.close()
        made: Session = dialect.connect(*arguments, **parameters)
        self._addresses[made] = address
        return made

    def _keep(self, session: Session) -> None:
        kept = self._kept[self._addresses[session]]
        usable = not session.closed and session.info.transaction_status == TransactionStatus.IDLE
        if not usable or session.info.host != self._host or len(kept) == _MOST:
            session.close()
            return
        try:
            session.autocommit = True
            session.execute(_FORGET)
            session.autocommit = False
            session.prepare_threshold = None
        except psycopg.Error:
            session.close()
        else:
            kept.append(session)
