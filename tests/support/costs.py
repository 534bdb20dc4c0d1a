"""What transactions of the service cost, counted by the server and by SQLAlchemy: without a clock."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import Connection, event, text
from sqlalchemy.pool import QueuePool

from worker import one_message
from worker.database import Database


def _sum(kinds: str, *counted: str) -> str:
    """What the server has of a session in its statistics, and what it has not yet: together they only grow.

    Alone, the latter falls to zero whenever the session writes them, which it may do after each transaction.

    What other sessions write in the meantime would count, too, and they write once a second: so whoever counts has them
    write at the end of their transaction, and before anything is counted every session writes what it still has.
    """
    each = " + ".join(f"pg_stat_get_tuples_{one}(oid) + pg_stat_get_xact_tuples_{one}(oid)" for one in counted)
    return f"coalesce(sum({each}) FILTER (WHERE relkind IN ({kinds})), 0)"


# Of tables what was read in sequence, of indexes the entries that scans returned.
_READ = _sum("'r', 'i'", "returned")
_WRITTEN = _sum("'r'", "inserted", "updated", "deleted")
_COUNTERS = text(f"""
SELECT {_READ} AS read, {_WRITTEN} AS written, pg_current_wal_insert_lsn() - pg_lsn '0/0' AS wal
FROM pg_class, pg_stat_force_next_flush() WHERE relnamespace IN ('withdrawals'::regnamespace, 'lms'::regnamespace)
""")


def _write_statistics(db: Database) -> None:
    """Every idle session of the pool writes the statistics that it has not written yet."""
    with ExitStack() as idle:
        for _ in range(cast(QueuePool, db.engine.pool).checkedin()):
            idle.enter_context(db.engine.begin()).execute(text("SELECT pg_stat_force_next_flush()"))


@dataclass(slots=True)
class Costs:
    """What was spent in a block."""

    statements: list[str] = field(default_factory=list)
    """Without BEGIN, COMMIT and notifications, which are no statements of a request."""
    commits: int = 0
    rows_read: int = 0
    """Rows and index entries."""
    rows_written: int = 0
    wal: int = 0
    """Bytes of the write-ahead log. What others write meanwhile counts too, so take the smallest of a few."""


@contextmanager
def counting(db: Database) -> Iterator[Costs]:
    """Count what every transaction of these connections costs."""
    costs = Costs()
    _write_statistics(db)
    began: dict[Connection, Any] = {}
    alone: set[Connection] = set()
    """On which a statement has committed itself."""

    def begin(connection: Connection) -> None:
        began[connection] = connection.execute(_COUNTERS).one()

    def commit(connection: Connection) -> None:
        before, after = began.pop(connection), connection.execute(_COUNTERS).one()
        costs.commits += 1
        costs.rows_read += int(after.read - before.read)
        costs.rows_written += int(after.written - before.written)
        costs.wal += int(after.wal - before.wal)

    def rollback(connection: Connection) -> None:
        """Where each statement commits itself, SQLAlchemy rolls back at the end, and has no commit of its own."""
        if connection in alone:
            alone.discard(connection)
            commit(connection)

    def statement(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if "NOTIFY" not in statement and "pg_current_wal_insert_lsn" not in statement:
            costs.statements.append(statement)
            if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
                alone.add(connection)

    def sending(connection: Connection, session: Any, steps: Any, then: Any) -> Any:
        """A message goes past SQLAlchemy, which tells of neither its beginning nor its end."""
        if connection.engine.pool is not db.engine.pool:
            return send(connection, session, steps, then)
        before = session.execute(_COUNTERS.text).fetchone()
        found = send(connection, session, steps, then)
        after = session.execute(_COUNTERS.text).fetchone()
        costs.commits += 1
        read, written, wal = (int(now - then) for now, then in zip(after, before, strict=True))
        costs.rows_read += read
        costs.rows_written += written
        costs.wal += wal
        return found

    send, one_message._send = one_message._send, sending
    listeners: list[tuple[str, Callable[..., Any]]] = [
        ("begin", begin),
        ("commit", commit),
        ("rollback", rollback),
        ("before_cursor_execute", statement),
    ]
    for name, listener in listeners:
        event.listen(db.engine, name, listener)
    try:
        yield costs
    finally:
        one_message._send = send
        for name, listener in listeners:
            event.remove(db.engine, name, listener)


def smallest(
    db: Database, act: Callable[[], object], *, before: Callable[[], object] = lambda: None, times: int = 4
) -> Costs:
    """The costs of an act, of several times the smallest of each kind. What is done `before` each is not counted.

    The first time touches pages that the last checkpoint has written: their whole images are no cost of the act.
    """
    found = []
    for _ in range(times):
        before()
        with counting(db) as costs:
            act()
        found.append(costs)
    return Costs(
        min((one.statements for one in found), key=len),
        min(one.commits for one in found),
        min(one.rows_read for one in found),
        min(one.rows_written for one in found),
        min(one.wal for one in found),
    )
