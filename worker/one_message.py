"""Several statements in one message of PostgreSQL's protocol, which is one round trip and one transaction.

The driver's pipeline mode saves the round trips, too, but sends each statement as a message of its own. A process that
is frozen between two of them would hold the locks of the first for as long as it is frozen: PostgreSQL before 17 has no
timeout for that. The server begins a simple query only when it has all of it, and commits it at its end, so what the
client does meanwhile holds no lock (ops/decisions/0057).
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
import sqlalchemy
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from worker.faults import is_read_only

OWN_SESSION = "withdrawals_own_session"
"""In a connection's `info`: that its session is not shared, so that what it has prepared is there the next time."""
_prepared: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()
"""Of each session, the names of what it has prepared."""
_NUMBERED, _NAMED = PGDialect_psycopg(paramstyle="numeric_dollar"), PGDialect_psycopg()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Setting:
    """In place of a value: what an earlier statement has left in a setting of the session, NULL if none has.

    PostgreSQL keeps a setting whose transaction was rolled back, as an empty text: that is none, too.
    """

    name: str
    type: str
    """As which it is read."""


class _SettingDumper(psycopg.adapt.Dumper):
    def quote(self, obj: Setting) -> bytes:
        return f"nullif(current_setting('{obj.name}', true), '')::{obj.type}".encode()

    def dump(self, obj: Setting) -> bytes:
        raise psycopg.NotSupportedError(f"{obj.name} is read by the server, in a message")


psycopg.adapters.register_dumper(Setting, _SettingDumper)


@dataclass(frozen=True)
class Step:
    """A statement of a message. Each `:parameter` is cast to its type, because its value arrives as text."""

    name: str
    """Under which it is prepared."""
    text: str

    @cached_property
    def clause(self) -> sqlalchemy.TextClause:
        """It for `Connection.execute`, in a transaction of several round trips."""
        return sqlalchemy.text(self.text)

    @cached_property
    def _numbered(self) -> Any:
        return self.clause.compile(dialect=_NUMBERED)

    @cached_property
    def _named(self) -> str:
        return str(self.clause.compile(dialect=_NAMED))

    @cached_property
    def preparation(self) -> str:
        """What prepares it in a session."""
        return f"PREPARE {self.name} AS {self._numbered}"

    def call(self, cursor: Any, values: Mapping[str, Any], *, prepared: bool) -> str:
        """It with its values, as it is sent."""
        if not prepared:
            return str(cursor.mogrify(self._named, values))
        given = [values[name] for name in self._numbered.positiontup or ()]
        places = f" ({', '.join(['%s'] * len(given))})" if given else ""
        return str(cursor.mogrify(f"EXECUTE {self.name}{places}", given))


Part = tuple[Step, Mapping[str, Any]]
"""A statement of a message, with its values."""


def is_true(rows: Sequence[Any]) -> bool:
    """The answer to a question: the one value of its one row."""
    ((answer,),) = rows
    return bool(answer)


def at_once(connection: Connection, *steps: Part, then: Sequence[Part] = ()) -> list[list[Any]]:
    """Run statements in one message, and commit them; the rows of each, as tuples.

    Each has a snapshot of its own, and sees what those before it have done. If one fails, nothing is done.
    `then`: a second transaction, which begins once the first has committed. If one of these fails, the first stands.
    `connection` commits each statement (`autocommit`). The values stand in the text that the server logs if it fails,
    so what names a person is given as bytes, which the log has as hexadecimal digits.

    Raises:
        DBAPIError: of the first that failed.
    """
    session: Any = connection.connection.driver_connection
    if not session.autocommit:
        raise ValueError("a message is a transaction of its own: the connection has to commit each statement")
    try:
        try:
            return _send(connection, session, steps, then)
        except psycopg.errors.InvalidSqlStatementName:  # the driver drops what is prepared after a ROLLBACK
            session.rollback()  # the first of two transactions was begun, and has done nothing
            _prepared[session] = {name for (name,) in session.execute("SELECT name FROM pg_prepared_statements")}
            return _send(connection, session, steps, then)
    except psycopg.Error as error:  # as SQLAlchemy does with its own statements
        lost = session.closed or session.broken or is_read_only(error)
        if lost:
            connection.invalidate(error)
        else:
            session.rollback()  # of two transactions the first stays open when it fails, without its locks
        raise sqlalchemy.exc.DBAPIError.instance(
            "", None, error, psycopg.Error, hide_parameters=True, connection_invalidated=lost
        ) from error


def _send(connection: Connection, session: Any, steps: Sequence[Part], then: Sequence[Part]) -> list[list[Any]]:
    cursor = psycopg.ClientCursor(session)
    prepared = _prepare(connection, session, [step for step, _ in (*steps, *then)])

    def calls(parts: Sequence[Part]) -> str:
        return "; ".join(step.call(cursor, values, prepared=step.name in prepared) for step, values in parts)

    # A message is one transaction as it is. The first of two has to be begun: PostgreSQL warns of a COMMIT without.
    sent = f"BEGIN; {calls(steps)}; COMMIT; {calls(then)}" if then else calls(steps)
    for listener in connection.dispatch.before_cursor_execute:
        for step, values in (*steps, *then):
            listener(connection, cursor, step.text, values, None, False)
    connection.dialect.do_execute(cursor, sent, None)  # type: ignore[arg-type]
    found = _read(cursor)
    return [*found[1 : len(steps) + 1], *found[len(steps) + 2 :]] if then else found


def _prepare(connection: Connection, session: Any, steps: Sequence[Step]) -> set[str]:
    """Prepare what this session has not prepared, so that its plan is kept; the names of what is prepared."""
    if not connection.info.get(OWN_SESSION):
        return set()
    prepared = _prepared.setdefault(session, set())
    for step in steps:
        if step.name not in prepared:
            with suppress(psycopg.errors.DuplicatePreparedStatement):  # a cancel came after it and before its answer
                session.execute(step.preparation.encode())
            prepared.add(step.name)
    return prepared


def _read(cursor: Any) -> list[list[Any]]:
    found = []
    while True:
        found.append(cursor.fetchall() if cursor.description else [])
        if not cursor.nextset():
            return found
