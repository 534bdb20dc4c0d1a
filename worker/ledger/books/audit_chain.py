"""The chain of hashes over the audit of each organisation, a link for each finished day.

Seals notice a row that is removed, and are for this database. A link is for whoever holds an export of the audit: a
cryptographic hash, which is computed from the records in the export and can be compared with the link of that day.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from sqlalchemy import Connection, text

from worker.ledger.books.rule import Rule, Violation, fill

RECORD = """CAST(jsonb_build_object('id', a.id,
    'at', to_char(a.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'organisation_id', a.organisation_id,
    'actor', a.actor, 'action', a.action, 'job_id', a.job_id, 'dead_letter_id', a.dead_letter_id, 'note', a.note,
    'detail', a.detail) AS text)"""
"""A row `a` of the audit as the text that is hashed and exported."""
RECORD_HASH = f"sha256(convert_to({RECORD}, 'UTF8'))"
ERASED_HASH = """(SELECT x.record_hash FROM withdrawals.erased_rows x
    WHERE x.table_name = 'audit' AND x.row_id = a.id)"""
"""What a row `a` was hashed as before a person was erased from it; null: nobody was."""
_HASH = f"coalesce({ERASED_HASH}, {RECORD_HASH})"

FIRST = bytes(32)
"""What the first link of a chain has in place of the hash before."""

RULES = (
    Rule(
        "audit-chain",
        "A finished day of an organisation's audit does not have the hash that its chain has.",
        "Compare that day with an export that was made before, or with a backup; find out who may write as the owner.",
    ),
)


def link_hash(before: bytes, records: bytes) -> bytes:
    """The hash of a day. `records`: SHA-256 of the SHA-256 of each record, in the order of their ids."""
    return hashlib.sha256(before + records).digest()


# The days that the newest seal of the audit does not cover yet, up to the one that is sealed now.
_DAYS = text("""
SELECT CAST(d AS date) AS day FROM (SELECT max(day) AS day FROM withdrawals.seals WHERE table_name = 'audit') newest,
    generate_series(newest.day + 1, CAST(:until AS date), interval '1 day') d ORDER BY 1
""")
# No row of that day has an id up to the last one that was seen before the day began.
_LINK = text(f"""
INSERT INTO withdrawals.audit_days (organisation_id, day, after, row_count, hash)
SELECT r.organisation_id, CAST(:day AS date), l.day, r.n, sha256(coalesce(l.hash, :first) || r.records)
FROM (SELECT a.organisation_id, count(*) AS n, sha256(string_agg({_HASH}, CAST('' AS bytea) ORDER BY a.id)) AS records
    FROM withdrawals.audit a WHERE a.at >= CAST(CAST(:day AS date) AS timestamp) AT TIME ZONE 'UTC'
        AND a.at < CAST(CAST(:day AS date) + 1 AS timestamp) AT TIME ZONE 'UTC'
        AND a.id > (SELECT coalesce(max(last_id), 0) FROM withdrawals.seals WHERE table_name = 'audit'
            AND looked_at <= CAST(CAST(:day AS date) AS timestamp) AT TIME ZONE 'UTC')
    GROUP BY a.organisation_id) r
LEFT JOIN LATERAL (SELECT d.day, d.hash FROM withdrawals.audit_days d
    WHERE d.organisation_id = r.organisation_id AND d.day < CAST(:day AS date) ORDER BY d.day DESC LIMIT 1) l ON true
ON CONFLICT DO NOTHING
""")


def link(connection: Connection, until: date) -> None:
    """Add the links of the days that are about to be sealed."""
    connection.execute(text("SET LOCAL statement_timeout = '10min'"))  # a day of a large site; it locks nothing
    for day in list(connection.scalars(_DAYS, {"until": until})):
        connection.execute(_LINK, {"day": day, "first": FIRST})


@dataclass(slots=True)
class _Day:
    """The records of one day, as far as they were read."""

    rows: int = 0
    records: Any = field(default_factory=hashlib.sha256)


_LINKS = text("""
SELECT d.organisation_id, d.day, d.after, d.row_count, d.hash, b.hash AS before,
    lag(d.day) OVER (PARTITION BY d.organisation_id ORDER BY d.day) AS day_before
FROM withdrawals.audit_days d
LEFT JOIN withdrawals.audit_days b ON b.organisation_id = d.organisation_id AND b.day = d.after
ORDER BY d.organisation_id, d.day
""")
_PRUNED = text("""
SELECT organisation_id, day, sum(row_count) AS n, max(id) > :horizon AS busy
FROM withdrawals.prunes WHERE kind = 'audit' GROUP BY 1, 2
""")
# Days from the first link on that have rows must have a link, once they are sealed.
_LINKED = text("""
SELECT (SELECT min(day) FROM withdrawals.audit_days) AS first,
    (SELECT max(day) FROM withdrawals.seals WHERE table_name = 'audit') AS last
""")


@dataclass(slots=True)
class Chain:
    """The audit by organisation and day, put together from slices of rising ids."""

    found: dict[tuple[int, date], _Day] = field(default_factory=dict)

    def add(self, connection: Connection, within: str) -> None:
        """Read the rows of a slice."""
        statement = f"""
            SELECT a.organisation_id, CAST(a.at AT TIME ZONE 'UTC' AS date) AS day, count(*) AS n,
                string_agg({_HASH}, CAST('' AS bytea) ORDER BY a.id) AS hashes
            FROM withdrawals.audit a WHERE {{within a.id}} GROUP BY 1, 2"""
        for row in connection.execute(text(fill(statement, within))):
            day = self.found.setdefault((row.organisation_id, row.day), _Day())
            day.rows += row.n
            day.records.update(row.hashes)

    def compare(self, connection: Connection, *, horizon: int, since: date | None = None) -> list[Violation]:
        """What the links say against the rows. A day of which rows were pruned is compared by their number.

        `horizon`: the newest record of a prune when the check began. `since`: the first day whose rows were read.
        """
        broken, linked = [], set()
        pruned = {(row.organisation_id, row.day): row for row in connection.execute(_PRUNED, {"horizon": horizon})}
        for row in connection.execute(_LINKS):
            linked.add((row.organisation_id, row.day))
            where = f"audit of organisation {row.organisation_id}, {row.day}"
            if row.after != row.day_before:
                broken.append(Violation("audit-chain", f"{where}: does not follow {row.day_before}"))
            if since is not None and row.day < since:
                continue
            day = self.found.get((row.organisation_id, row.day), _Day())
            gone = pruned.get((row.organisation_id, row.day))
            if gone is not None and (gone.busy or day.rows + gone.n == row.row_count):
                continue
            if day.rows != row.row_count or link_hash(row.before or FIRST, day.records.digest()) != row.hash:
                broken.append(Violation("audit-chain", f"{where}: rows {day.rows}, linked {row.row_count}"))
        bounds = connection.execute(_LINKED).one()
        for organisation_id, at in sorted(self.found.keys() - linked):
            if bounds.first is not None and bounds.first < at <= bounds.last:
                broken.append(Violation("audit-chain", f"audit of organisation {organisation_id}, {at}: has no link"))
        return broken


_OF_ORGANISATION = text("""
SELECT d.day, d.after, d.row_count, d.hash, b.hash AS before,
    (SELECT coalesce(sum(p.row_count), 0) FROM withdrawals.prunes p
        WHERE p.kind = 'audit' AND p.organisation_id = d.organisation_id AND p.day = d.day) AS pruned
FROM withdrawals.audit_days d
LEFT JOIN withdrawals.audit_days b ON b.organisation_id = d.organisation_id AND b.day = d.after
WHERE d.organisation_id = :organisation_id AND d.day >= :since AND d.day <= :until ORDER BY d.day
""")


@dataclass(frozen=True, slots=True)
class Link:
    """A finished day of an organisation's audit."""

    day: date
    after: date | None
    """The day of the link before."""
    row_count: int
    hash: bytes
    before: bytes
    """The hash of the link before."""
    pruned: int = 0
    """Records of the day that were pruned since."""


def list_links(
    connection: Connection, organisation_id: int, *, since: date | None = None, until: date | None = None
) -> Iterator[Link]:
    """The chain of an organisation by rising day."""
    values = {"organisation_id": organisation_id, "since": since or date.min, "until": until or date.max}
    for row in connection.execute(_OF_ORGANISATION, values):
        yield Link(row.day, row.after, row.row_count, row.hash, row.before or FIRST, int(row.pruned))
