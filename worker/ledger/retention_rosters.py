"""Lines of full rosters that were kept long enough. The roster stays: who accepted it, and how many people it had.

A line goes once its roster is done, or has failed, and everything about the roster's job had ended: until then the
epochs of its people say whether a newer event replaces a withdrawal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, text

from worker.ledger.retention import at_rest

_MAY_GO = f"""r.state IN ('done', 'failed') AND coalesce(r.done_at, r.failed_at) < :before
    AND EXISTS (SELECT FROM withdrawals.roster_lines t WHERE t.roster_id = r.id OFFSET 0)
    AND (r.job_id IS NULL OR EXISTS (
        SELECT FROM withdrawals.jobs j WHERE j.id = r.job_id AND {at_rest("j")} OFFSET 0))"""
_NEXT = text(f"""
SELECT r.id, r.organisation_id, CAST(coalesce(r.done_at, r.failed_at) AT TIME ZONE 'UTC' AS date) AS day
FROM withdrawals.rosters r WHERE r.id > :after AND {_MAY_GO} ORDER BY r.id LIMIT 1
""")
_MEASURE = text(f"""
SELECT count(*) AS n, coalesce(sum(pg_column_size(t)), 0) AS bytes, min(coalesce(r.done_at, r.failed_at)) AS oldest
FROM withdrawals.rosters r JOIN withdrawals.roster_lines t ON t.roster_id = r.id WHERE {_MAY_GO}
""")


@dataclass(frozen=True, slots=True)
class OldRoster:
    """A roster whose lines may go."""

    id: int
    organisation_id: int
    day: date
    """UTC, on which it was done or failed."""


def find_next(connection: Connection, *, after: int, before: datetime) -> OldRoster | None:
    """The next roster by rising id whose lines may go, of any organisation. `before`: all about it ended by then."""
    row = connection.execute(_NEXT, {"after": after, "before": before}).one_or_none()
    return OldRoster(*row) if row else None


def measure(connection: Connection, *, before: datetime) -> tuple[int, int, datetime | None]:
    """Lines that may go, their bytes without indexes, and when the first of their rosters was done or failed."""
    row = connection.execute(_MEASURE, {"before": before}).one()
    return int(row.n), int(row.bytes), row.oldest


_LOCK = text("""
SELECT external_id FROM withdrawals.roster_lines WHERE roster_id = :roster AND organisation_id = :organisation
ORDER BY external_id LIMIT :most FOR UPDATE
""")
_DELETE = text("""
WITH gone AS (
    DELETE FROM withdrawals.roster_lines t
    WHERE t.roster_id = :roster AND t.organisation_id = :organisation AND t.external_id = ANY(CAST(:people AS text[]))
    RETURNING hashtextextended(CAST(ROW(t.roster_id, t.organisation_id, t.external_id, t.line, t.active, t.finding,
        t.result, t.epoch) AS text), 0) AS digest
)
SELECT count(*) AS n, coalesce(bit_xor(digest), 0) AS digest FROM gone
""")


def lock_lines(connection: Connection, roster: OldRoster, *, most: int) -> list[str]:
    """Lock up to so many lines of a roster; their people."""
    values = {"roster": roster.id, "organisation": roster.organisation_id, "most": most}
    return list(connection.scalars(_LOCK, values))


def delete_lines(connection: Connection, roster: OldRoster, people: Sequence[str]) -> tuple[int, int]:
    """Delete locked lines; how many, and the exclusive or of a hash of each, for their record."""
    values = {"roster": roster.id, "organisation": roster.organisation_id, "people": list(people)}
    row = connection.execute(_DELETE, values).one()
    return int(row.n), int(row.digest)
