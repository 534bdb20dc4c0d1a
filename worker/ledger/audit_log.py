"""The audit, read: who did what, newest first, or a day at a time for an export."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, literal_column, select, text, tuple_

from schemas.audit import AuditFilter
from worker.ledger.books.audit_chain import ERASED_HASH, RECORD
from worker.models import audit


@dataclass(frozen=True, slots=True)
class Act:
    """A row of the audit."""

    id: int
    at: datetime
    actor: str
    action: str
    job_id: int | None
    dead_letter_id: int | None
    note: str | None
    detail: dict[str, Any]


_COLUMNS = (
    audit.c.id,
    audit.c.at,
    audit.c.actor,
    audit.c.action,
    audit.c.job_id,
    audit.c.dead_letter_id,
    audit.c.note,
    audit.c.detail,
)


def list_acts(
    connection: Connection, organisation_id: int, wanted: AuditFilter, *, before: int | None, limit: int
) -> list[Act]:
    """Acts that match, newest first. `before`: the last id of the page before."""
    conditions: list[ColumnElement[bool]] = [audit.c.organisation_id == organisation_id]
    for column in (audit.c.actor, audit.c.job_id, audit.c.dead_letter_id):
        value = getattr(wanted, column.name)
        if value is not None:
            conditions.append(column == value)
    if wanted.action is not None:
        begins = wanted.action.endswith(".")
        conditions.append(
            audit.c.action.startswith(wanted.action, autoescape=True) if begins else audit.c.action == wanted.action
        )
    if wanted.since is not None:
        conditions.append(audit.c.at >= wanted.since)
    if wanted.until is not None:
        conditions.append(audit.c.at < wanted.until)
    if before is not None:
        last = select(audit.c.at).where(audit.c.id == before, audit.c.organisation_id == organisation_id)
        conditions.append(tuple_(audit.c.at, audit.c.id) < tuple_(last.scalar_subquery(), before))
    page = select(*_COLUMNS).where(*conditions).order_by(audit.c.at.desc(), audit.c.id.desc()).limit(limit)
    return [Act(**row) for row in connection.execute(page).mappings()]


# As the index `audit_of_settings` has it: else the events about persons would be looked through.
_OF_SETTINGS = select(*_COLUMNS).where(
    audit.c.organisation_id == bindparam("organisation_id"),
    func.split_part(audit.c.action, literal_column("'.'"), literal_column("1")) == bindparam("kind"),
    audit.c.job_id.is_(None),
    audit.c.dead_letter_id.is_(None),
    ~audit.c.detail.has_key(literal_column("'external_id'")),
)


def list_settings_acts(connection: Connection, organisation_id: int, kind: str, *, limit: int) -> list[Act]:
    """Acts on settings of a kind, newest first: `token` for all that begin with `token.`."""
    page = _OF_SETTINGS.order_by(audit.c.at.desc(), audit.c.id.desc()).limit(limit)
    rows = connection.execute(page, {"organisation_id": organisation_id, "kind": kind})
    return [Act(**row) for row in rows.mappings()]


_OF_DAY = text(f"""
SELECT {RECORD} AS record, {ERASED_HASH} AS erased_hash FROM withdrawals.audit a
WHERE a.organisation_id = :organisation_id AND a.at >= :begins AND a.at < :ends ORDER BY a.id
""")
_PAGE = 5_000
"""Records that are in memory at a time."""


def records_of_day(connection: Connection, organisation_id: int, day: date) -> Iterator[tuple[str, bytes | None]]:
    """The records of a day (UTC) by rising id, as the text that is hashed.

    With the hash of what a record was, if a person was erased from it.
    """
    begins = datetime.combine(day, time(), UTC)
    values = {"organisation_id": organisation_id, "begins": begins, "ends": begins + timedelta(days=1)}
    for row in connection.execute(_OF_DAY, values, execution_options={"yield_per": _PAGE}):
        yield row.record, row.erased_hash


def find_days(connection: Connection, organisation_id: int) -> tuple[date, date] | None:
    """The first and the last day (UTC) that have acts; None: there are none."""
    mine = select(audit.c.at).where(audit.c.organisation_id == organisation_id).limit(1)
    first = connection.scalar(mine.order_by(audit.c.at, audit.c.id))
    last = connection.scalar(mine.order_by(audit.c.at.desc(), audit.c.id.desc()))
    return None if first is None or last is None else (first.astimezone(UTC).date(), last.astimezone(UTC).date())
