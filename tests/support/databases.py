"""Databases of tests: clones of a template, and used again after a test that left the schema as it was.

A clone takes three checkpoints and copies 600 files; emptying the few tables that a test has filled costs a third of
that. What cannot be emptied (a table of the test's own, rights, statistics, a session that is still there) is dropped.
"""

import time
from collections.abc import Iterable
from contextlib import closing, suppress

import psycopg
from psycopg import sql

from tests.support.sessions import Sessions

Session = psycopg.Connection[tuple[object, ...]]

_GROWTH = 2_000_000
"""Bytes. Emptied tables keep their dead rows, and a plan must not depend on many of those."""

_CHANGED = """
SELECT (SELECT count(*) || ' ' || coalesce(max(xmin::text::bigint), 0) FROM pg_class WHERE oid >= 16384),
    (SELECT count(*) || ' ' || coalesce(max(xmin::text::bigint), 0) FROM pg_attribute WHERE attrelid >= 16384),
    (SELECT count(*) || ' ' || coalesce(max(xmin::text::bigint), 0) FROM pg_proc WHERE oid >= 16384),
    (SELECT count(*) || ' ' || coalesce(max(xmin::text::bigint), 0) FROM pg_trigger),
    (SELECT count(*) || ' ' || coalesce(max(xmin::text::bigint), 0) FROM pg_constraint),
    (SELECT count(*) || ' ' || coalesce(max(xmin::text::bigint), 0) FROM pg_policy),
    (SELECT count(*) || ' ' || coalesce(max(xmin::text::bigint), 0) FROM pg_namespace),
    (SELECT count(*) FROM pg_event_trigger),
    (SELECT count(*) FROM pg_statistic),
    (SELECT count(*) || ' ' || sum(relpages) || ' ' || sum(reltuples) FROM pg_class WHERE oid >= 16384),
    (SELECT count(*) FROM pg_db_role_setting WHERE setdatabase = d.oid),
    d.xmin::text,
    (SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'i', 't'))
FROM pg_database d WHERE d.datname = current_database()
"""
"""What differs once something other than rows was changed; and how much the files hold."""

_TABLES = r"SELECT schemaname, tablename FROM pg_tables WHERE schemaname !~ '^(pg_|information_schema$)' ORDER BY 1, 2"
_SEQUENCES = "SELECT schemaname, sequencename FROM pg_sequences"


class Cluster:
    """Makes and drops databases through one connection, which is made again when a test has restarted the server."""

    def __init__(self, url: str) -> None:
        self.url = self._url = url
        self._connection: Session | None = None

    def run(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement outside of a transaction; its rows if it has any."""
        kept, self._connection = self._connection, None
        if kept is not None:
            try:
                found = kept.execute(statement)
            except psycopg.OperationalError:
                broken = kept.broken
                kept.close()
                if not broken:
                    raise
            else:
                self._connection = kept
                return found.fetchall() if found.description else []
        self._connection = psycopg.connect(self._url, autocommit=True)
        found = self._connection.execute(statement)
        return found.fetchall() if found.description else []

    def session(self, name: str) -> Session:
        """A connection to a database, outside of transactions."""
        return psycopg.connect(self._url, dbname=name, autocommit=True)

    def is_left(self, name: str, *, but: Iterable[int] = ()) -> bool:
        """Whether nobody is connected to a database, `but` these processes; sessions just closed are awaited."""
        ours = ", ".join(map(str, [0, *but]))
        for _ in range(50):
            if not self.run(f"SELECT 1 FROM pg_stat_activity WHERE datname = '{name}' AND pid NOT IN ({ours}) LIMIT 1"):
                return True
            time.sleep(0.001)
        return False

    def drop(self, name: str) -> None:
        """Drop a database and end its sessions."""
        self.is_left(name)  # PostgreSQL looks for sessions ten times a second; those closed just now are gone sooner
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class Databases:
    """The databases that the tests of one process take and give back, one at a time."""

    def __init__(
        self,
        cluster: Cluster,
        template: str,
        *,
        prefix: str = "test",
        again: bool = True,
        sessions: Sessions | None = None,
    ) -> None:
        """`again`: whether a database is used for several tests. `sessions`: those of others, to share."""
        self._cluster = cluster
        self._template = template
        self._prefix = prefix
        self._again = again
        self._numbers = iter(range(1, 1_000_000))
        self._clones: dict[str, _Clone] = {}
        self._unused: list[str] = []
        with closing(cluster.session(template)) as session:
            self._empty = _emptying(session)
            self.sessions = sessions or Sessions(session.info.host)

    def take(self, *, new: bool = False) -> str:
        """The name of a database that is as the template; `new`: without dead rows of earlier tests."""
        if self._unused and not new:
            return self._unused.pop()
        name = f"{self._prefix}_{next(self._numbers)}"
        # Copying files takes half the time of the default, which writes every page to the log.
        self._cluster.run(f"CREATE DATABASE {name} TEMPLATE {self._template} STRATEGY file_copy")
        if self._again:
            self._clones[name] = _Clone(self._cluster.session(name))
        return name

    def give_back(self, name: str) -> None:
        """Empty a database for the next test, or drop it."""
        if clone := self._clones.get(name):
            with suppress(psycopg.Error):  # whatever this test has done to it, the next one gets another
                ours = [clone.session.info.backend_pid, *self.sessions.processes(name)]
                if self._cluster.is_left(name, but=ours) and clone.is_emptied(self._empty):
                    self._unused.append(name)
                    return
            del self._clones[name]
            clone.session.close()
        self.sessions.close(name)
        self._cluster.drop(name)

    def close(self) -> None:
        for name, clone in self._clones.items():
            clone.session.close()
            self.sessions.close(name)


class _Clone:
    """A database and a session that stays: a new one would first have to read the catalogue."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._schema, self._size = self._look()

    def is_emptied(self, empty: str) -> bool:
        schema, size = self._look()
        if schema != self._schema or size > self._size + _GROWTH:
            return False
        self.session.execute(empty)
        return True

    def _look(self) -> tuple[tuple[object, ...], int]:
        *schema, size = self.session.execute(_CHANGED).fetchall()[0]
        return tuple(schema), int(str(size))


def _emptying(session: Session) -> str:
    """Statements that make the rows and sequences what they are in this database, without triggers and foreign keys."""
    parts: list[sql.Composable] = [sql.SQL("BEGIN"), sql.SQL("SET LOCAL session_replication_role = replica")]
    for schema, table in session.execute(_TABLES).fetchall():
        named = sql.Identifier(str(schema), str(table))
        parts.append(sql.SQL("DELETE FROM {}").format(named))
        rows = session.execute(sql.SQL("SELECT json_agg(t)::text FROM {} t").format(named)).fetchall()[0][0]
        if rows is not None:
            columns = sql.SQL(", ").join(map(sql.Identifier, _written(session, str(schema), str(table))))
            insert = (
                "INSERT INTO {0} ({1}) OVERRIDING SYSTEM VALUE SELECT {1} FROM json_populate_recordset(NULL::{0}, {2})"
            )
            parts.append(sql.SQL(insert).format(named, columns, sql.Literal(rows)))
    for schema, name in session.execute(_SEQUENCES).fetchall():
        named = sql.Identifier(str(schema), str(name))
        stands = session.execute(sql.SQL("SELECT last_value, is_called FROM {}").format(named)).fetchall()[0]
        sequence = sql.Literal(named.as_string(None))
        parts.append(sql.SQL("SELECT setval({}, {}, {})").format(sequence, *map(sql.Literal, stands)))
    return sql.SQL(";\n").join([*parts, sql.SQL("COMMIT")]).as_string(session)


def _written(session: Session, schema: str, table: str) -> list[str]:
    """The columns that are not computed."""
    rows = session.execute(
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = %s AND table_name = %s AND is_generated = 'NEVER' ORDER BY ordinal_position",
        (schema, table),
    ).fetchall()
    return [str(row[0]) for row in rows]
