"""Receipts: what was answered to each event, by the key under which it came. An HR event waits in its receipt.

Many events are stored by one statement; `inbox_sets.py` has what applies them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, select, text
from sqlalchemy.dialects.postgresql import insert

from worker.models import receipts

ReceiptKey = tuple[int, str, str]
"""Organisation, door and the sender's key."""
CHANGED = "user.changed"
"""The type of an event that has to be looked up."""


@dataclass(frozen=True, slots=True)
class NewReceipt:
    """The receipt of an event that comes in. With a `type` it waits to be applied, else its `status` is final."""

    organisation_id: int
    door: str
    key: str
    request_hash: bytes
    status: str
    type: str | None = None
    external_id: str | None = None
    sequence: int | None = None
    occurred_at: datetime | None = None
    effective_at: datetime | None = None
    request_id: str | None = None
    traceparent: str | None = None
    lookup: bool = False
    """What it says has to be looked up in the HR system before it is applied."""

    @property
    def unique_key(self) -> ReceiptKey:
        return self.organisation_id, self.door, self.key


# In the order of the keys, so that two processes that store the same events never wait for each other in a circle.
# Events that came together bear different times, in the order in which they came.
_INSERT_ALL = text("""
INSERT INTO withdrawals.receipts (organisation_id, door, idempotency_key, request_hash, status, waiting, type,
    external_id, sequence, occurred_at, effective_at, received_at, run_after, request_id, traceparent, lookup)
SELECT g.organisation_id, g.door, g.key, g.request_hash, g.status, g.type IS NOT NULL, g.type, g.external_id,
    g.sequence, g.occurred_at, g.effective_at, t.received_at, CASE WHEN g.type IS NOT NULL THEN t.received_at END,
    g.request_id, g.traceparent, g.lookup
FROM unnest(CAST(:organisations AS bigint[]), CAST(:doors AS text[]), CAST(:keys AS text[]), CAST(:hashes AS bytea[]),
    CAST(:statuses AS text[]), CAST(:types AS text[]), CAST(:persons AS text[]), CAST(:sequences AS bigint[]),
    CAST(:occurred AS timestamptz[]), CAST(:effective AS timestamptz[]), CAST(:requests AS text[]),
    CAST(:traces AS text[]), CAST(:lookups AS boolean[])) WITH ORDINALITY
    AS g(organisation_id, door, key, request_hash, status, type, external_id, sequence, occurred_at, effective_at,
        request_id, traceparent, lookup, place)
CROSS JOIN LATERAL (SELECT now() + g.place * interval '1 microsecond' AS received_at) t
WHERE g.occurred_at IS NULL OR g.occurred_at <= clock_timestamp() + CAST(:skew AS interval)
ORDER BY g.organisation_id, g.door, g.key
ON CONFLICT (organisation_id, door, idempotency_key) DO NOTHING
RETURNING organisation_id, door, idempotency_key, id
""")


def insert_all(connection: Connection, new: Sequence[NewReceipt], *, skew: timedelta) -> dict[ReceiptKey, int]:
    """Store receipts of different keys; the ids of those that are new.

    Left out are those whose key is known, and events dated further ahead of the database's clock than `skew`.
    """
    values: dict[str, Any] = {
        "skew": skew,
        "organisations": [one.organisation_id for one in new],
        "doors": [one.door for one in new],
        "keys": [one.key for one in new],
        "hashes": [one.request_hash for one in new],
        "statuses": [one.status for one in new],
        "types": [one.type for one in new],
        "persons": [one.external_id for one in new],
        "sequences": [one.sequence for one in new],
        "occurred": [one.occurred_at for one in new],
        "effective": [one.effective_at for one in new],
        "requests": [one.request_id for one in new],
        "traces": [one.traceparent for one in new],
        "lookups": [one.lookup for one in new],
    }
    rows = connection.execute(_INSERT_ALL, values)
    return {(row.organisation_id, row.door, row.idempotency_key): row.id for row in rows}


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """The receipt of a key, with what is needed to give the same answer again."""

    id: int
    request_hash: bytes
    status: str
    job_id: int | None
    dead_letter_id: int | None
    was_inbox: bool
    """Whether the event was taken into the inbox; else it was answered with what became of it."""
    fault: str | None
    """Why the event is `invalid`; from its dead letter."""


# Each is looked up by its key, as a value: a join could begin with all receipts.
_FIND_ALL = text("""
SELECT g.organisation_id, g.door, g.key, r.id, r.request_hash, r.status, r.job_id, r.dead_letter_id,
    r.type IS NOT NULL AS was_inbox,
    (SELECT d.evidence ->> 'fault' FROM withdrawals.dead_letters d WHERE d.id = r.dead_letter_id) AS fault
FROM unnest(CAST(:organisations AS bigint[]), CAST(:doors AS text[]), CAST(:keys AS text[]))
    AS g(organisation_id, door, key)
CROSS JOIN LATERAL (SELECT * FROM withdrawals.receipts own WHERE own.organisation_id = g.organisation_id
    AND own.door = g.door AND own.idempotency_key = g.key OFFSET 0) r
""")


def find_receipts(connection: Connection, keys: Sequence[ReceiptKey]) -> dict[ReceiptKey, StoredReceipt]:
    """The receipts that these keys have already."""
    values = {
        "organisations": [key[0] for key in keys],
        "doors": [key[1] for key in keys],
        "keys": [key[2] for key in keys],
    }
    return {
        (row.organisation_id, row.door, row.key): StoredReceipt(row.id, bytes(row.request_hash), *row[5:])
        for row in connection.execute(_FIND_ALL, values)
    }


def find_receipt(connection: Connection, organisation_id: int, door: str, key: str) -> StoredReceipt | None:
    """The receipt that a key has already."""
    return find_receipts(connection, [(organisation_id, door, key)]).get((organisation_id, door, key))


_INSERT = (
    insert(receipts)
    .on_conflict_do_nothing(index_elements=["organisation_id", "door", "idempotency_key"])
    .returning(receipts.c.id)
)


def insert_receipt(
    connection: Connection,
    *,
    organisation_id: int,
    door: str,
    key: str,
    request_hash: bytes,
    status: str,
    job_id: int | None = None,
    dead_letter_id: int | None = None,
) -> int | None:
    """Store the answer to an event for good; the receipt's id, None when its key was taken meanwhile."""
    values = {
        "organisation_id": organisation_id,
        "door": door,
        "idempotency_key": key,
        "request_hash": request_hash,
        "status": status,
        "job_id": job_id,
        "dead_letter_id": dead_letter_id,
    }
    return connection.execute(_INSERT, values).scalar_one_or_none()


@dataclass(frozen=True, slots=True)
class ShownReceipt:
    """A receipt as it is shown: what was answered to an event, and what became of it."""

    id: int
    door: str
    key: str
    status: str
    waiting: bool
    job_id: int | None
    dead_letter_id: int | None
    type: str | None
    occurred_at: datetime | None
    effective_at: datetime | None
    received_at: datetime
    applied_at: datetime | None

    @property
    def receipt_id(self) -> str:
        return str(self.id)

    @property
    def event_id(self) -> str:
        return self.key

    @property
    def state(self) -> str:
        return "waiting" if self.waiting else "applied"

    @property
    def source(self) -> str:
        return self.door.removeprefix("hr:")


_SHOW = select(
    receipts.c.id,
    receipts.c.door,
    receipts.c.idempotency_key.label("key"),
    receipts.c.status,
    receipts.c.waiting,
    receipts.c.job_id,
    receipts.c.dead_letter_id,
    receipts.c.type,
    receipts.c.occurred_at,
    receipts.c.effective_at,
    receipts.c.received_at,
    receipts.c.applied_at,
).where(receipts.c.organisation_id == bindparam("organisation_id"), receipts.c.id == bindparam("receipt_id"))


def show_receipt(connection: Connection, organisation_id: int, receipt_id: int) -> ShownReceipt | None:
    """One receipt of an organisation."""
    values = {"organisation_id": organisation_id, "receipt_id": receipt_id}
    row = connection.execute(_SHOW, values).mappings().one_or_none()
    return ShownReceipt(**row) if row else None


_LATEST = text("""
SELECT id, door, idempotency_key AS key, status, waiting, job_id, dead_letter_id, type, occurred_at, effective_at,
    received_at, applied_at
FROM (SELECT * FROM withdrawals.receipts ORDER BY id DESC LIMIT :window) r
WHERE r.organisation_id = :organisation_id AND r.door = :door ORDER BY r.id DESC LIMIT :limit
""")


def list_latest(
    connection: Connection, organisation_id: int, door: str, *, limit: int, window: int = 20_000
) -> list[ShownReceipt]:
    """The newest receipts of a door, among the last `window` of the service: no index of the door is kept for it.

    Such an index would have to be written with every event.
    """
    values = {"organisation_id": organisation_id, "door": door, "limit": limit, "window": window}
    return [ShownReceipt(**row) for row in connection.execute(_LATEST, values).mappings()]


_UNKNOWN = text("""
SELECT j.id FROM withdrawals.jobs j
WHERE j.organisation_id = :organisation_id AND j.id = ANY(:jobs) AND j.learner_external_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM lms.learners l
        WHERE l.organisation_id = j.organisation_id AND l.external_id = j.learner_external_id)
""")


def find_unknown_learners(connection: Connection, organisation_id: int, jobs: Sequence[int]) -> set[int]:
    """Of jobs that events have made: those about a learner whom the platform does not know."""
    return set(connection.scalars(_UNKNOWN, {"organisation_id": organisation_id, "jobs": list(jobs)}))


_NOT_UNDERSTOOD = text("""
SELECT r.door FROM (SELECT * FROM withdrawals.receipts ORDER BY id DESC LIMIT :window) r
WHERE r.organisation_id = :organisation_id AND r.door = ANY(:doors)
GROUP BY r.door HAVING bool_and(r.type IS NULL) AND NOT bool_and(starts_with(r.idempotency_key, :test))
""")


def list_not_understood(
    connection: Connection, organisation_id: int, doors: Sequence[str], *, test: str, window: int = 20_000
) -> list[str]:
    """Of these doors: those whose events, among the last `window` of the service, are all of no known type.

    `test`: how the keys of tests begin, which are no events.
    """
    values = {"organisation_id": organisation_id, "doors": list(doors), "test": test, "window": window}
    return list(connection.scalars(_NOT_UNDERSTOOD, values))


_ZONES = text("SELECT id, timezone FROM lms.organisations WHERE id = ANY(:ids)")


def time_zones(connection: Connection, organisation_ids: Sequence[int]) -> dict[int, str]:
    """The time zones of organisations, IANA names."""
    return {row.id: row.timezone for row in connection.execute(_ZONES, {"ids": list(organisation_ids)})}
