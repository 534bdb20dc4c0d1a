"""Rows of the audit and the receipts that were kept long enough. They go in one transaction with their record.

Only days that are sealed are pruned, so what a seal counted is what is there and what is on record (`books/seals.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, text

from worker.ledger.books.seals import SEALED, with_erased
from worker.ledger.fragments import LIVE, sql_list

# The audit of what is under way, and the notes of a letter that is open, are still read.
_ABOUT_NOTHING_OPEN = f"""
    NOT EXISTS (SELECT FROM withdrawals.jobs j WHERE j.id = r.job_id AND j.finished_at IS NULL OFFSET 0)
    AND NOT EXISTS (SELECT FROM withdrawals.dead_letters d WHERE d.id = r.dead_letter_id
        AND d.state IN ({sql_list(LIVE)}) OFFSET 0)"""
_MAY_GO = {"audit": _ABOUT_NOTHING_OPEN, "receipts": f"NOT r.waiting AND {_ABOUT_NOTHING_OPEN}"}


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table that may go, among the next ones by rising id."""

    ids: list[int]
    last_id: int
    """The last row that was looked at."""
    ended: bool
    """Whether all rows from here on are too young."""


def look(connection: Connection, table: str, *, after: int, before: datetime, window: int) -> Rows:
    """The next rows that may go: written before `before`, on a sealed day, and about nothing that is open."""
    statement = text(f"""
        WITH looked AS MATERIALIZED (
            SELECT * FROM withdrawals.{table} WHERE id > :after ORDER BY id LIMIT :window
        )
        SELECT r.id, r.{SEALED[table]} < :before AS is_old,
            r.{SEALED[table]} < :before AND {_MAY_GO[table]} AND r.{SEALED[table]} < (
                SELECT CAST(max(day) + 1 AS timestamp) AT TIME ZONE 'UTC' FROM withdrawals.seals
                WHERE table_name = '{table}') AS may_go
        FROM looked r ORDER BY r.id""")
    rows = connection.execute(statement, {"after": after, "before": before, "window": window}).all()
    ended = len(rows) < window or not any(row.is_old for row in rows)
    return Rows([row.id for row in rows if row.may_go], rows[-1].id if rows else after, ended)


@dataclass(frozen=True, slots=True)
class Day:
    """Rows of an organisation of one day."""

    organisation_id: int
    day: date
    row_count: int
    digest: int


def count_days(connection: Connection, table: str, ids: Sequence[int]) -> list[Day]:
    """Number and digest of these rows, as a seal counts them, by organisation and day."""
    statement = text(f"""
        SELECT organisation_id, CAST({SEALED[table]} AT TIME ZONE 'UTC' AS date) AS day, count(*) AS n,
            bit_xor(sealed) AS digest
        FROM {with_erased(table)} WHERE id = ANY(:ids) GROUP BY 1, 2 ORDER BY 1, 2""")
    rows = connection.execute(statement, {"ids": list(ids)})
    return [Day(row.organisation_id, row.day, row.n, row.digest) for row in rows]


def delete_rows(connection: Connection, table: str, ids: Sequence[int]) -> int:
    """Delete rows whose record this transaction has written; how many. The database refuses any others."""
    return connection.execute(
        text(f"DELETE FROM withdrawals.{table} WHERE id = ANY(:ids)"), {"ids": list(ids)}
    ).rowcount


def measure(connection: Connection, table: str, ids: Sequence[int]) -> tuple[int, datetime | None]:
    """Bytes of rows without indexes, and the time of the oldest."""
    statement = text(f"""
        SELECT coalesce(sum(pg_column_size(r)), 0) AS bytes, min({SEALED[table]}) AS oldest
        FROM withdrawals.{table} r WHERE id = ANY(:ids)""")
    row = connection.execute(statement, {"ids": list(ids)}).one()
    return int(row.bytes), row.oldest


def may_delete(connection: Connection, table: str) -> bool:
    """Whether this login may delete rows of a table."""
    held: Any = connection.scalar(text(f"SELECT has_table_privilege('withdrawals.{table}', 'DELETE')"))
    return bool(held)
