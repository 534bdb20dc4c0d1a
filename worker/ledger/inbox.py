"""Receipts: what was answered to each event, by the key under which it came.

The statements are built once: every event runs them.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, insert, select

from worker.models import dead_letters, receipts


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """The receipt of a key, with what is needed to give the same answer again."""

    id: int
    request_hash: bytes
    status: str
    job_id: int | None
    dead_letter_id: int | None
    fault: str | None
    """Why the event is `invalid`; from its dead letter."""


_FIND = (
    select(
        receipts.c.id,
        receipts.c.request_hash,
        receipts.c.status,
        receipts.c.job_id,
        receipts.c.dead_letter_id,
        dead_letters.c.evidence["fault"].astext,
    )
    .join(dead_letters, dead_letters.c.id == receipts.c.dead_letter_id, isouter=True)
    .where(
        receipts.c.organisation_id == bindparam("organisation_id"),
        receipts.c.door == bindparam("door"),
        receipts.c.idempotency_key == bindparam("key"),
    )
)


def find_receipt(connection: Connection, organisation_id: int, door: str, key: str) -> StoredReceipt | None:
    """The receipt that a key has already."""
    row = connection.execute(_FIND, {"organisation_id": organisation_id, "door": door, "key": key}).one_or_none()
    return StoredReceipt(*row) if row else None


_INSERT = insert(receipts).returning(receipts.c.id)


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
) -> int:
    """Store the answer to an event for good; returns the receipt's id.

    The organisation's settings row must be locked, so that nobody stores one for the same key meanwhile.
    """
    values = {
        "organisation_id": organisation_id,
        "door": door,
        "idempotency_key": key,
        "request_hash": request_hash,
        "status": status,
        "job_id": job_id,
        "dead_letter_id": dead_letter_id,
    }
    return connection.execute(_INSERT, values).scalar_one()
