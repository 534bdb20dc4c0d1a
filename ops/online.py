"""Migrations that run while the service does: each statement alone, outside of a transaction.

An index on a table that has rows is built and dropped CONCURRENTLY, and a constraint on it is validated by itself, so
that nobody who reads or writes the table waits. PostgreSQL does the first only outside of a transaction. What was done
is then done, also when the migration dies between two statements, so every statement can be repeated. An index whose
build was interrupted stays behind and is invalid; it is dropped first (PostgreSQL's manual, "CREATE INDEX").
"""

import re
from pathlib import Path

from alembic import op
from sqlalchemy import Connection, text

_COMMENT = re.compile(r"--.*")
_BUILDS = re.compile(r"CREATE (?:UNIQUE )?INDEX CONCURRENTLY (?P<name>\w+) ON (?P<schema>\w+)\.")
_IS_VALID = text("""SELECT i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = :schema AND c.relname = :name""")


def run(file: Path) -> None:
    """Run, or print, the statements of a migration's file.

    `ops.migrate` says by the attribute `alone` that the connection commits each of them by itself. In a transaction,
    which is how a database is made that nobody uses yet, indexes are built in the plain way.
    """
    context = op.get_context()
    is_alone = context.config is not None and context.config.attributes.get("alone", False)
    for statement in statements(file.read_text(encoding="utf-8")):
        built = _BUILDS.match(statement)
        if not is_alone:
            op.execute(statement.replace(" CONCURRENTLY", ""))
        elif built is None:
            op.execute(statement)
        elif context.as_sql:  # a script cannot look whether an interrupted one was left behind
            op.execute(_drop(built))
            op.execute(statement)
        else:
            _build(op.get_bind(), built, statement)


def statements(script: str) -> list[str]:
    """The statements of a script that has neither strings with a semicolon nor function bodies."""
    return [" ".join(one.split()) for one in _COMMENT.sub("", script).split(";") if one.strip()]


def _build(connection: Connection, built: re.Match[str], statement: str) -> None:
    is_valid = connection.scalar(_IS_VALID, built.groupdict())
    if is_valid:  # by an attempt that died afterwards
        return
    if is_valid is False:
        op.execute(_drop(built))
    op.execute(statement)


def _drop(built: re.Match[str]) -> str:
    return f"DROP INDEX CONCURRENTLY IF EXISTS {built['schema']}.{built['name']}"
