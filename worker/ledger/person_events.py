"""Persons and their events: which event is newest, and the locks that make it so."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from worker.ledger.jobs import database_now
from worker.records import Person

_ENSURE = text("""
INSERT INTO withdrawals.persons (organisation_id, external_id) VALUES (:organisation_id, :external_id)
ON CONFLICT DO NOTHING
""")
_LOCK = text("""
SELECT epoch, active, effective_at FROM withdrawals.persons
WHERE organisation_id = :organisation_id AND external_id = :external_id FOR UPDATE
""")


def lock(connection: Connection, organisation_id: int, external_id: str) -> Person:
    """Lock a person's row, made at their first event."""
    key = {"organisation_id": organisation_id, "external_id": external_id}
    connection.execute(_ENSURE, key)
    return Person(**connection.execute(_LOCK, key).mappings().one())


_LOCK_OF_CHUNKS = text("""
SELECT p.organisation_id, p.external_id, p.epoch FROM withdrawals.persons p
WHERE (p.organisation_id, p.external_id) IN (
    SELECT j.organisation_id, j.learner_external_id FROM withdrawals.chunks c
    JOIN withdrawals.jobs j ON j.id = c.job_id WHERE c.id = ANY(:chunks) AND j.epoch IS NOT NULL)
ORDER BY 1, 2 FOR UPDATE
""")


def lock_of_chunks(connection: Connection, chunk_ids: Sequence[int]) -> dict[tuple[int, str], int]:
    """Lock the persons whose deactivations these chunks carry out; their epochs as they are now."""
    rows = connection.execute(_LOCK_OF_CHUNKS, {"chunks": list(chunk_ids)})
    return {(row.organisation_id, row.external_id): row.epoch for row in rows}


_CHUNK_PERSONS = text("""
SELECT c.id, j.organisation_id, j.learner_external_id, j.epoch FROM withdrawals.chunks c
JOIN withdrawals.jobs j ON j.id = c.job_id WHERE c.id = ANY(:chunks) AND j.epoch IS NOT NULL
""")


def superseded(connection: Connection, chunk_ids: Sequence[int]) -> set[int]:
    """Lock the persons behind deactivations; the chunks whose person has had a newer event since."""
    epochs = lock_of_chunks(connection, chunk_ids)
    if not epochs:
        return set()
    rows = connection.execute(_CHUNK_PERSONS, {"chunks": list(chunk_ids)})
    return {row.id for row in rows if epochs.get((row.organisation_id, row.learner_external_id)) != row.epoch}


# Within one source the sequence decides, else the time; a reactivation wins a tie.
_ORDER = "({0}.sequence IS NOT NULL, coalesce({0}.sequence, 0), {0}.occurred_at, {0}.type <> 'user.deactivated')"
_RECORD = text(f"""
INSERT INTO withdrawals.person_events AS known
    (organisation_id, external_id, source, type, sequence, occurred_at, effective_at)
VALUES (:organisation_id, :external_id, :source, :type, :sequence, :occurred_at, :effective_at)
ON CONFLICT (organisation_id, external_id, source) DO UPDATE SET type = excluded.type,
    sequence = excluded.sequence, occurred_at = excluded.occurred_at, effective_at = excluded.effective_at
WHERE {_ORDER.format("excluded")} > {_ORDER.format("known")}
RETURNING 1
""")


def record_event(connection: Connection, event: dict[str, Any]) -> bool:
    """Keep an event if it is the newest of its source; the person's row must be locked."""
    return connection.execute(_RECORD, event).one_or_none() is not None


_NEWEST = text("""
SELECT source, type, sequence, occurred_at, effective_at FROM withdrawals.person_events
WHERE organisation_id = :organisation_id AND external_id = :external_id
ORDER BY occurred_at DESC, type <> 'user.deactivated' DESC, source LIMIT 1
""")


def newest(connection: Connection, organisation_id: int, external_id: str) -> dict[str, Any] | None:
    """The event that decides the person's state: the newest over all sources."""
    key = {"organisation_id": organisation_id, "external_id": external_id}
    row = connection.execute(_NEWEST, key).mappings().one_or_none()
    return dict(row) if row else None


_TURN = text("""
UPDATE withdrawals.persons SET epoch = epoch + 1, active = :active,
    effective_at = CASE WHEN :active THEN NULL ELSE CAST(:effective_at AS timestamptz) END,
    deactivation_due = NOT :active
WHERE organisation_id = :organisation_id AND external_id = :external_id
RETURNING epoch
""")


def turn(
    connection: Connection, organisation_id: int, external_id: str, *, active: bool, effective_at: datetime
) -> int:
    """Let a locked person's state follow a new newest event; the new epoch."""
    parameters = {"organisation_id": organisation_id, "external_id": external_id}
    return int(connection.scalar(_TURN, {**parameters, "active": active, "effective_at": effective_at}) or 0)


_LOCK_LEARNER = text("""
SELECT id FROM lms.learners WHERE organisation_id = :organisation_id AND external_id = :external_id FOR UPDATE
""")
_FOLLOW_LEARNER = text("""
UPDATE lms.learners l SET active = want.active
FROM (SELECT CASE WHEN p.active THEN true WHEN p.effective_at <= :now THEN false
        WHEN :was_active THEN NULL ELSE true END AS active FROM withdrawals.persons p
    WHERE p.organisation_id = :organisation_id AND p.external_id = :external_id) want
WHERE l.organisation_id = :organisation_id AND l.external_id = :external_id AND l.active <> want.active
""")
_SETTLE_PERSON = text("""
UPDATE withdrawals.persons p SET deactivation_due = false
WHERE p.organisation_id = :organisation_id AND p.external_id = :external_id AND p.deactivation_due
    AND p.effective_at <= :now
""")


def follow(connection: Connection, organisation_id: int, external_id: str, *, was_active: bool) -> bool:
    """Let the learner's `active` follow a locked person; False when the platform does not know them (yet).

    A deactivation that lies ahead leaves `active` as it is, unless the person was deactivated before
    (not `was_active`): then the newer event means that they are active until that time.
    """
    key = {"organisation_id": organisation_id, "external_id": external_id}
    if connection.execute(_LOCK_LEARNER, key).one_or_none() is None:
        return False
    now = database_now(connection)  # not the transaction's: the event just accepted is younger than that
    connection.execute(_FOLLOW_LEARNER, {**key, "was_active": was_active, "now": now})
    connection.execute(_SETTLE_PERSON, {**key, "now": now})
    return True


@dataclass(frozen=True, slots=True)
class KeptReceipt:
    """What was answered to an event."""

    id: int
    request_hash: bytes
    status: str
    job_id: int | None
    dead_letter_id: int | None
    fault: str | None
    """Why it is `invalid`, as its letter says."""


_RECEIPT = text("""
SELECT r.id, r.request_hash, r.status, r.job_id, r.dead_letter_id, d.evidence ->> 'fault' AS fault
FROM withdrawals.receipts r LEFT JOIN withdrawals.dead_letters d ON d.id = r.dead_letter_id
WHERE r.organisation_id = :organisation_id AND r.door = :door AND r.idempotency_key = :key
""")


def receipt(connection: Connection, organisation_id: int, door: str, key: str) -> KeptReceipt | None:
    """The answer that a key was given already."""
    parameters = {"organisation_id": organisation_id, "door": door, "key": key}
    row = connection.execute(_RECEIPT, parameters).mappings().one_or_none()
    return KeptReceipt(**{**row, "request_hash": bytes(row["request_hash"])}) if row else None


_KEEP_RECEIPT = text("""
INSERT INTO withdrawals.receipts (organisation_id, door, idempotency_key, request_hash, status, job_id,
    dead_letter_id)
VALUES (:organisation_id, :door, :key, :request_hash, :status, :job_id, :dead_letter_id)
RETURNING id
""")


def keep_receipt(connection: Connection, **values: Any) -> int:
    """Keep the answer to an event, without end; its number.

    The settings row is locked, so nobody keeps one for the same key meanwhile.
    """
    return int(connection.scalar(_KEEP_RECEIPT, {"job_id": None, "dead_letter_id": None, **values}) or 0)


_DUE = """
SELECT p.organisation_id, p.external_id FROM withdrawals.persons p
JOIN lms.learners l ON l.organisation_id = p.organisation_id AND l.external_id = p.external_id
WHERE p.deactivation_due AND p.effective_at <= now()
"""
_ALL_DUE = text(_DUE + "ORDER BY p.effective_at LIMIT :most")
_LOCK_DUE = text(
    _DUE + "AND p.organisation_id = :organisation_id AND p.external_id = :external_id FOR UPDATE OF p SKIP LOCKED"
)


def lock_due(connection: Connection, organisation_id: int, external_id: str) -> bool:
    """Lock a person whose deactivation is due while their learner is active; False: it is not, or somebody has them."""
    key = {"organisation_id": organisation_id, "external_id": external_id}
    return connection.execute(_LOCK_DUE, key).one_or_none() is not None


def due(connection: Connection, *, most: int = 500) -> list[tuple[int, str]]:
    """Persons whose deactivation has fallen due while their learner is still active, the longest due first."""
    return [(row.organisation_id, row.external_id) for row in connection.execute(_ALL_DUE, {"most": most})]
