"""Seals: how many rows the audit and the receipts of a finished day had, and a digest of them.

Numbers without gaps would not do: an identity column leaves gaps after a rollback. A chain over the rows would put all
writers in one line. So the relay counts each day once it has ended and nothing can be written into it any more; a seal
holds the digest of the seal before it, so that one cannot be exchanged alone. The digest is the exclusive or of one
hash for each row: it is the same in any order, and can be put together from slices.

A row from which a person was erased keeps the hash that it had before, in `erased_rows`: the seal counts that one. The
hash of what is left stands beside it, so that such a row cannot be changed again unseen (decision record 0038).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise

from sqlalchemy import Connection, text

from worker.ledger.books import audit_chain
from worker.ledger.books.prunes import PrunedDays
from worker.ledger.books.rule import Rule, Severity, Violation, fill
from worker.one_message import Step

SEALED = {"audit": "at", "receipts": "received_at"}
"""The tables that are sealed, with the time of a row."""

_ROW = {
    "audit": "ROW(id, organisation_id, actor, action, job_id, dead_letter_id, note, detail, extract(epoch FROM at))",
    "receipts": """ROW(id, organisation_id, door, idempotency_key, encode(request_hash, 'hex'),
        extract(epoch FROM received_at))""",
}
"""What of a row never changes, unless a person is erased."""


def row_hash(table: str) -> str:
    """SQL: the hash of what a row has now. The columns are named without their table."""
    return f"hashtextextended(CAST({_ROW[table]} AS text), 0)"


def with_erased(table: str) -> str:
    """SQL: the rows of a table as `r`. `now`: its hash. `sealed`: what a seal counts. `remaining`: what is left."""
    return f"""(SELECT t.*, {row_hash(table)} AS now, coalesce(x.sealed_hash, {row_hash(table)}) AS sealed,
        x.current_hash AS remaining FROM withdrawals.{table} t
        LEFT JOIN withdrawals.erased_rows x ON x.table_name = '{table}' AND x.row_id = t.id) r"""


RULES = (
    Rule(
        "audit-removed",
        "A finished day of the audit has other rows than when it was sealed.",
        "Compare that day with a backup, and find out who may write the audit as its owner.",
    ),
    Rule(
        "receipts-removed",
        "A finished day of the receipts has other rows than when it was sealed.",
        "Compare that day with a backup; an event without a receipt would be taken in again.",
    ),
    Rule(
        "erased-row",
        "A row from which a person was erased was changed again.",
        "Compare the row with a backup from after the erasure, and find out who may write it as its owner.",
    ),
    Rule(
        "seal-chain",
        "A seal was removed or changed: it does not follow from the seal before it.",
        "Compare `seals` with a backup, and find out who may write it as its owner.",
    ),
    Rule(
        "seal-late",
        "A day that ended long ago has no seal.",
        "Check with `doctor` that a relay runs. It seals a day when it has ended, and no old transaction is open.",
        severity=Severity.WARNING,
    ),
)


@dataclass(frozen=True, slots=True)
class Horizon:
    """What was seen after a day had ended. When every transaction of then has ended, that day gets no more rows."""

    day: date
    """The last day that had ended, UTC."""
    last_transaction: int
    """The number of the transaction that looked: all that had one before have a lower number."""
    last_ids: dict[str, int]
    """The last id of each table. A row of a later day than this look has a higher one."""
    looked_at: datetime


# An hour after midnight, so that whoever began before has written something, or has been cut off.
_LAST_DAY = "(CAST(now() - interval '1 hour' AS timestamptz) AT TIME ZONE 'UTC')::date - 1"
_NEWEST = "SELECT DISTINCT ON (table_name) table_name, day FROM withdrawals.seals ORDER BY table_name, day DESC"

_LAST_IDS = ", ".join(f"coalesce((SELECT max(id) FROM withdrawals.{table}), 0) AS {table}" for table in SEALED)

_LOOK = text(f"""
SELECT {_LAST_DAY} AS day, CAST(CAST(pg_current_xact_id() AS text) AS bigint) AS last_transaction,
    now() AS looked_at, {_LAST_IDS}
WHERE EXISTS (SELECT FROM ({_NEWEST}) newest WHERE day < {_LAST_DAY})
""")
_PASSED = text("SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) > :last_transaction")


ANY_UNSEALED = Step(
    "days_unsealed",
    "SELECT "
    + " OR ".join(
        f"coalesce((SELECT max(day) FROM withdrawals.seals WHERE table_name = '{table}') < {_LAST_DAY}, false)"
        for table in SEALED
    ),
)
"""Whether `look` finds a day that has ended."""


def look(connection: Connection) -> Horizon | None:
    """What has to end before the last finished day can be sealed; None when it is sealed."""
    row = connection.execute(_LOOK).mappings().one_or_none()
    if row is None:
        return None
    last_ids = {name: row[name] for name in SEALED}
    return Horizon(row["day"], row["last_transaction"], last_ids, row["looked_at"])


def has_passed(connection: Connection, horizon: Horizon) -> bool:
    """Whether every transaction has ended that ran when the horizon was seen."""
    return bool(connection.scalar(_PASSED, {"last_transaction": horizon.last_transaction}))


# The rows after the newest seal, up to this day. None of them has an id up to the last one that was seen before the
# first of these days began.
_SEAL = """
INSERT INTO withdrawals.seals (table_name, day, after, row_count, digest, last_id, looked_at)
SELECT '{table}', CAST(:day AS date), newest.day, rows.n, hashint8extended(newest.digest, rows.n) # rows.digest,
    :last_id, :looked_at
FROM (SELECT day, digest, CAST(day + 1 AS timestamp) AT TIME ZONE 'UTC' AS begins FROM withdrawals.seals
    WHERE table_name = '{table}' ORDER BY day DESC LIMIT 1) newest
CROSS JOIN LATERAL (
    SELECT count(*) AS n, coalesce(bit_xor(sealed), 0) AS digest
    FROM {rows} WHERE {at} >= newest.begins
        AND {at} < CAST(CAST(:day AS date) + 1 AS timestamp) AT TIME ZONE 'UTC'
        AND id > (SELECT coalesce(max(last_id), 0) FROM withdrawals.seals
            WHERE table_name = '{table}' AND looked_at <= newest.begins)) rows
WHERE newest.day < CAST(:day AS date)
ON CONFLICT DO NOTHING
"""


def seal(connection: Connection, horizon: Horizon) -> int:
    """Seal each table up to the horizon's day; how many seals were written."""
    written = 0
    audit_chain.link(connection, horizon.day)
    for table, at in SEALED.items():
        statement = _SEAL.format(table=table, at=at, rows=with_erased(table))
        values = {"day": horizon.day, "last_id": horizon.last_ids[table], "looked_at": horizon.looked_at}
        written += connection.execute(text(statement), values).rowcount
    return written


@dataclass(slots=True)
class Days:
    """Rows of one table by their day: number and digest, put together from slices."""

    table: str
    found: dict[date, tuple[int, int]]
    changed: dict[date, int] = field(default_factory=dict)
    """Erased rows that are not what the erasure has left, by day."""

    def add(self, connection: Connection, within: str) -> None:
        """Count the rows of a slice."""
        at = SEALED[self.table]
        statement = f"""
            SELECT CAST({at} AT TIME ZONE 'UTC' AS date) AS day, count(*) AS n, bit_xor(sealed) AS digest,
                count(*) FILTER (WHERE remaining <> now) AS changed
            FROM {with_erased(self.table)} WHERE {{within id}} GROUP BY 1"""
        for row in connection.execute(text(fill(statement, within))):
            n, digest = self.found.get(row.day, (0, 0))
            self.found[row.day] = (n + row.n, digest ^ row.digest)
            if row.changed:
                self.changed[row.day] = self.changed.get(row.day, 0) + row.changed


# `linked`: what the digest of the seal before makes of this one, before its rows are put in.
_SEALS = text(f"""
SELECT s.table_name, s.day, s.after, s.row_count, s.digest, hashint8extended(b.digest, s.row_count) AS linked,
    {_LAST_DAY} - s.day AS days_since
FROM withdrawals.seals s LEFT JOIN withdrawals.seals b ON b.table_name = s.table_name AND b.day = s.after
ORDER BY s.table_name, s.day
""")


def compare(
    connection: Connection, counted: Iterable[Days], pruned: Mapping[str, PrunedDays], *, since: date | None = None
) -> list[Violation]:
    """What the seals say against the rows that were counted and those that are on record as pruned.

    `since`: the first day whose rows were counted.
    """
    seals = connection.execute(_SEALS).all()
    broken: list[Violation] = []
    for days in counted:
        mine = [seal for seal in seals if seal.table_name == days.table]
        heads = [seal for seal in mine if seal.after is None]
        if len(heads) != 1 or any(seal.after != before.day for before, seal in pairwise(mine)):
            broken.append(Violation("seal-chain", f"seals of {days.table}: {len(mine)}, of which first {len(heads)}"))
        for seal in mine:
            if seal.after is None or (since is not None and seal.after < since - timedelta(days=1)):
                continue
            gone = pruned[days.table]
            if any(seal.after < day <= seal.day for day in gone.busy):
                continue
            covered = [
                part
                for found in (days.found, gone.found)
                for day, part in found.items()
                if seal.after < day <= seal.day
            ]
            rows, digest = sum(n for n, _ in covered), seal.linked
            for _, part in covered:
                digest = digest ^ part if digest is not None else None
            if rows != seal.row_count or digest != seal.digest:
                found = f"{days.table} of {seal.day}: rows {rows}, sealed {seal.row_count}"
                broken.append(Violation(f"{days.table}-removed", found))
        for day, rows in sorted(days.changed.items()):
            broken.append(Violation("erased-row", f"{days.table} of {day}: rows {rows}"))
        if mine and mine[-1].days_since > 1:
            broken.append(Violation("seal-late", f"{days.table}: sealed up to {mine[-1].day}"))
    return broken
