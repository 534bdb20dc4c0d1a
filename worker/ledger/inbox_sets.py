"""The inbox on its way to be applied: which organisation's turn it is, the events of a set, what became of them.

An event waits in its receipt. Due are those whose `run_after` has come; whoever applies an organisation's holds an
advisory lock, so that two workers share the organisations and do not queue up behind one row.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from schemas.catalogue import ReceiptStatus
from worker.ledger import dead_letters
from worker.ledger.fragments import plan_by_index
from worker.one_message import Step

WINDOW = 4
"""So many times the size of a set is looked at to find it: a person may have sent several events."""


@dataclass(frozen=True, slots=True)
class WaitingEvent:
    """An event of the inbox, locked to be applied."""

    id: int
    door: str
    key: str
    request_hash: bytes
    type: str
    external_id: str
    sequence: int | None
    occurred_at: datetime | None
    effective_at: datetime | None
    received_at: datetime
    attempts: int
    own_failures: int
    tried_for: timedelta
    request_id: str | None
    traceparent: str | None
    waited: timedelta
    """Since it was received."""


# The organisations are found by jumping through the index: however many events wait, each costs one look.
DUE = Step(
    "inbox_due",
    """
WITH RECURSIVE organisations AS (
    SELECT min(r.organisation_id) AS id FROM withdrawals.receipts r WHERE r.waiting AND NOT r.lookup
    UNION ALL
    SELECT (SELECT min(r.organisation_id) FROM withdrawals.receipts r
        WHERE r.waiting AND NOT r.lookup AND r.organisation_id > o.id)
    FROM organisations o WHERE o.id IS NOT NULL
)
SELECT o.id FROM organisations o CROSS JOIN LATERAL (
    SELECT r.run_after FROM withdrawals.receipts r
    WHERE r.waiting AND NOT r.lookup AND r.organisation_id = o.id AND r.run_after <= now()
    ORDER BY r.run_after LIMIT 1) first
WHERE o.id IS NOT NULL ORDER BY first.run_after LIMIT CAST(:most AS integer)
""",
)
"""What `list_due` asks, as part of a message."""


def list_due(connection: Connection, *, most: int) -> list[int]:
    """Organisations with events that are due, the one that has waited longest first."""
    plan_by_index(connection)
    return list(connection.scalars(DUE.clause, {"most": most}))


_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended('withdrawals inbox ' || :organisation_id, 0))")


def try_lock(connection: Connection, organisation_id: int) -> bool:
    """Take an organisation's inbox until the transaction ends; False while another worker has it."""
    return bool(connection.scalar(_TRY_LOCK, {"organisation_id": str(organisation_id)}))


# After a failure the events of a set are applied with fewer others: those of the same `together` go together.
_TAKE = text("""
WITH near AS MATERIALIZED (
    SELECT r.id, r.external_id, r.run_after, r.together FROM withdrawals.receipts r
    WHERE r.organisation_id = :organisation_id AND r.waiting AND NOT r.lookup AND r.run_after <= now()
    ORDER BY r.run_after, r.id LIMIT :window
), head AS MATERIALIZED (
    SELECT together FROM near ORDER BY run_after, id LIMIT 1
), one_a_person AS MATERIALIZED (
    SELECT DISTINCT ON (external_id) id, run_after FROM near WHERE together = (SELECT together FROM head)
    ORDER BY external_id, run_after, id
)
SELECT r.id, r.door, r.idempotency_key AS key, r.request_hash, r.type, r.external_id, r.sequence, r.occurred_at,
    r.effective_at, r.received_at, r.attempts, r.own_failures, r.tried_for, r.request_id, r.traceparent,
    clock_timestamp() - r.received_at AS waited, (SELECT count(*) FROM near) AS seen
FROM withdrawals.receipts r
WHERE r.organisation_id = :organisation_id AND r.waiting AND r.id = ANY(ARRAY(
    SELECT id FROM one_a_person ORDER BY run_after, id LIMIT (SELECT least(together, :most) FROM head)))
ORDER BY r.run_after, r.id FOR UPDATE SKIP LOCKED
""")


def take(connection: Connection, organisation_id: int, *, most: int) -> tuple[list[WaitingEvent], bool]:
    """Lock the events of a set: due, at most one a person, the oldest first; and whether others are due beside them.

    The inbox is locked (`try_lock`).
    """
    values = {"organisation_id": organisation_id, "most": most, "window": WINDOW * most}
    rows = connection.execute(_TAKE, values).all()
    return [WaitingEvent(*row[:-1]) for row in rows], bool(rows) and rows[0].seen > len(rows)


# Once an event is applied its receipt names nobody.
_RECORD = text("""
UPDATE withdrawals.receipts r SET waiting = false, external_id = NULL, run_after = NULL, applied_at = clock_timestamp(),
    status = g.status, job_id = g.job_id
FROM unnest(CAST(:ids AS bigint[]), CAST(:statuses AS text[]), CAST(:jobs AS bigint[])) AS g(id, status, job_id)
WHERE r.organisation_id = :organisation_id AND r.id = ANY(:ids) AND r.id = g.id AND r.waiting
""")


def record_results(connection: Connection, organisation_id: int, results: Mapping[int, tuple[str, int | None]]) -> None:
    """Write what became of locked events: by receipt, its status and the job that carries it out."""
    values = {
        "organisation_id": organisation_id,
        "ids": list(results),
        "statuses": [status for status, _ in results.values()],
        "jobs": [job_id for _, job_id in results.values()],
    }
    written = connection.execute(_RECORD, values).rowcount
    assert written == len(results)  # noqa: S101 - they are locked


_POSTPONE = text("""
UPDATE withdrawals.receipts SET run_after = clock_timestamp() + CAST(:wait AS interval)
WHERE organisation_id = :organisation_id AND id = ANY(:ids) AND waiting
""")


def postpone(connection: Connection, organisation_id: int, ids: Sequence[int], *, wait: timedelta) -> None:
    """Let events whose person somebody else has locked be tried again after a while. It is no failure."""
    connection.execute(_POSTPONE, {"organisation_id": organisation_id, "ids": list(ids), "wait": wait})


_HALVE = text("""
UPDATE withdrawals.receipts SET together = least(together, :together), attempts = attempts + 1
WHERE organisation_id = :organisation_id AND id = ANY(:ids) AND waiting
""")


def halve(connection: Connection, organisation_id: int, ids: Sequence[int]) -> None:
    """Let the events of a set that failed be applied in halves, at once."""
    values = {"organisation_id": organisation_id, "ids": list(ids), "together": max((len(ids) + 1) // 2, 1)}
    connection.execute(_HALVE, values)


_RETRY = text("""
UPDATE withdrawals.receipts SET run_after = clock_timestamp() + CAST(:wait AS interval), attempts = attempts + 1,
    own_failures = own_failures + :own, tried_for = tried_for + CAST(:wait AS interval)
WHERE organisation_id = :organisation_id AND id = ANY(:ids) AND waiting
""")


def retry(
    connection: Connection, organisation_id: int, ids: Sequence[int], *, wait: timedelta, own_failure: bool
) -> None:
    """Let events whose attempt failed be tried again after `wait`. `own_failure`: not by the surroundings."""
    values = {"organisation_id": organisation_id, "ids": list(ids), "wait": wait, "own": int(own_failure)}
    connection.execute(_RETRY, values)


_GIVE_UP = text("""
UPDATE withdrawals.receipts SET waiting = false, lookup = false, external_id = NULL, run_after = NULL,
    applied_at = clock_timestamp(), status = :status, dead_letter_id = :letter_id
WHERE organisation_id = :organisation_id AND id = :id AND waiting
""")
_LOCK_ONE = text("""
SELECT id FROM withdrawals.receipts WHERE organisation_id = :organisation_id AND id = :id AND waiting FOR UPDATE
""")


def give_up(connection: Connection, organisation_id: int, event: WaitingEvent, *, fault: str, kind: str) -> int | None:
    """Put an event that cannot be applied in front of a person; the letter, None when somebody was faster.

    `fault`: why, free of personal data; `kind`: the same fault has the same.
    """
    own = {"organisation_id": organisation_id, "id": event.id}
    if connection.execute(_LOCK_ONE, own).one_or_none() is None:
        return None
    source = event.door.removeprefix("hr:")
    body = {
        "type": event.type,
        "external_id": event.external_id,
        "sequence": event.sequence,
        "occurred_at": event.occurred_at and event.occurred_at.isoformat(),
        "effective_at": event.effective_at and event.effective_at.isoformat(),
    }
    evidence = {"source": source, "event_id": event.key, "fault": fault, "body": json.dumps(body)}
    letter_id = dead_letters.open_for_event(
        connection,
        organisation_id,
        message=f"An event of the source {source} was accepted and cannot be applied: {fault}",
        fingerprint=f"invalid_event:{kind}",
        evidence=json.dumps(evidence),
    )
    connection.execute(_GIVE_UP, {**own, "letter_id": letter_id, "status": ReceiptStatus.INVALID})
    return letter_id
