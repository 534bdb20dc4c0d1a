"""Webhook deliveries: events on their way to endpoints.

Triggers write them (migration 0010) in the transaction that decided what they report.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, insert, literal, select, text
from sqlalchemy.dialects.postgresql import JSONB

from worker.models import deliveries, endpoints
from worker.one_message import Step
from worker.texts import mark


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """One event for one endpoint."""

    id: int
    endpoint_id: int
    type: str
    data: dict[str, Any]
    state: str
    attempts: int
    last_status: int | None
    last_error: str | None
    created_at: datetime
    delivered_at: datetime | None


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery that one worker may send until its lease runs out, with what is needed to send it."""

    id: int
    endpoint_id: int
    organisation_id: int
    token: UUID
    type: str
    data: dict[str, Any]
    created_at: datetime
    attempts: int
    url: str
    secret: str
    """Sealed."""
    previous_secret: str | None
    """Sealed; the one before, while deliveries are signed with both."""
    failures: int
    """Failed attempts at the endpoint in a row."""


_COLUMNS = (
    deliveries.c.id,
    deliveries.c.endpoint_id,
    deliveries.c.type,
    deliveries.c.data,
    deliveries.c.state,
    deliveries.c.attempts,
    deliveries.c.last_status,
    deliveries.c.last_error,
    deliveries.c.created_at,
    deliveries.c.delivered_at,
)


def insert_test(connection: Connection, organisation_id: int, endpoint_id: int) -> int | None:
    """Insert a delivery of type `test`. None: the organisation has no such enabled endpoint."""
    enabled = select(endpoints.c.id, endpoints.c.organisation_id, literal("test"), literal({}, JSONB)).where(
        endpoints.c.id == endpoint_id,
        endpoints.c.organisation_id == organisation_id,
        endpoints.c.disabled_at.is_(None),
    )
    new = insert(deliveries).from_select(["endpoint_id", "organisation_id", "type", "data"], enabled)
    return connection.scalar(new.returning(deliveries.c.id))


def list_deliveries(
    connection: Connection,
    organisation_id: int,
    endpoint_id: int,
    *,
    state: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[DeliveryRecord]:
    """Deliveries to an endpoint, newest first. `before`: the last id of the page before."""
    conditions = [deliveries.c.endpoint_id == endpoint_id, deliveries.c.organisation_id == organisation_id]
    if state is not None:
        conditions.append(deliveries.c.state == state)
    if before is not None:
        conditions.append(deliveries.c.id < before)
    page = select(*_COLUMNS).where(*conditions).order_by(deliveries.c.id.desc()).limit(limit)
    return [DeliveryRecord(**row) for row in connection.execute(page).mappings()]


def find_delivery(connection: Connection, organisation_id: int, delivery_id: int) -> DeliveryRecord | None:
    """One delivery of an organisation."""
    one = select(*_COLUMNS).where(deliveries.c.id == delivery_id, deliveries.c.organisation_id == organisation_id)
    row = connection.execute(one).mappings().one_or_none()
    return DeliveryRecord(**row) if row else None


# Deliveries that can be sent now: due, or claimed by a worker whose lease ran out. A failing endpoint rests, so it
# delays only its own deliveries. Each of the others gives up to {each}, those with the fewest attempts first.
_SENDABLE = """
SELECT d.id FROM withdrawals.endpoints e CROSS JOIN LATERAL (
    SELECT d.id FROM withdrawals.deliveries d
    WHERE d.endpoint_id = e.id AND d.state IN ('due', 'sending')
        AND (d.state = 'due' OR d.lease_until < clock_timestamp())
    ORDER BY d.attempts, d.id LIMIT {each}) d
WHERE e.disabled_at IS NULL AND e.paused_at IS NULL AND e.rest_until <= clock_timestamp()
"""
ANY_DUE = Step("delivery_due", f"SELECT EXISTS ({_SENDABLE.format(each=1)})")


# `taken` locks one delivery and skips those that another worker holds. The update claims it with a token, counts the
# attempt and reads the endpoint. If that was disabled meanwhile, nothing is claimed.
_CLAIM = """
WITH taken AS (
    SELECT d.id FROM withdrawals.deliveries d WHERE {which} AND d.state IN ('due', 'sending')
        AND (d.state = 'due' OR d.lease_until < clock_timestamp())
    ORDER BY d.attempts, d.id LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE withdrawals.deliveries d SET state = 'sending', token = :token, attempts = attempts + 1,
    lease_until = clock_timestamp() + :lease
FROM taken, withdrawals.endpoints e WHERE d.id = taken.id AND e.id = d.endpoint_id AND e.disabled_at IS NULL
RETURNING d.id, d.endpoint_id, d.organisation_id, d.token, d.type, d.data, d.created_at, d.attempts, e.url, e.secret,
    CASE WHEN e.previous_until > now() THEN e.previous_secret END AS previous_secret, e.failures
"""
_CLAIM_DUE = text(_CLAIM.format(which=f"d.id IN ({_SENDABLE.format(each=8)})"))
_CLAIM_ONE = text(_CLAIM.format(which="d.id = :id"))


def claim_due(connection: Connection, *, lease: timedelta) -> ClaimedDelivery | None:
    """Claim one delivery that is due. None: no delivery is due."""
    row = connection.execute(_CLAIM_DUE, {"token": uuid4(), "lease": lease}).mappings().one_or_none()
    return ClaimedDelivery(**row) if row else None


def claim_one(connection: Connection, delivery_id: int, *, lease: timedelta) -> ClaimedDelivery | None:
    """Claim this delivery, also while its endpoint rests. None: another worker has claimed it."""
    values = {"token": uuid4(), "lease": lease, "id": delivery_id}
    row = connection.execute(_CLAIM_ONE, values).mappings().one_or_none()
    return ClaimedDelivery(**row) if row else None


# `mine` records the arrival, if the claim still holds. Then the endpoint's failures are forgotten and it rests no more.
_DELIVERED = text("""
WITH mine AS (
    UPDATE withdrawals.deliveries SET state = 'delivered', delivered_at = now(), lease_until = NULL,
        last_status = :status, last_error = NULL
    WHERE id = :id AND token = :token AND state = 'sending' RETURNING endpoint_id
)
UPDATE withdrawals.endpoints e SET failures = 0, rest_until = '-infinity' FROM mine
WHERE e.id = mine.endpoint_id AND e.failures > 0
""")


def record_delivered(connection: Connection, claimed: ClaimedDelivery, status: int) -> None:
    """Record that a delivery arrived, with the HTTP status that came back. Its endpoint works again."""
    connection.execute(_DELIVERED, {"id": claimed.id, "token": claimed.token, "status": status})


_GONE = mark("it answered 410 Gone")

# `mine` records the failure, if the claim still holds. `rests` lets the endpoint rest, and disables it if it is gone.
_FAILED = text("""
WITH mine AS (
    UPDATE withdrawals.deliveries SET state = CASE WHEN attempts >= :most THEN 'failed' ELSE 'due' END,
        lease_until = NULL, last_status = :status, last_error = :error
    WHERE id = :id AND token = :token AND state = 'sending' RETURNING endpoint_id, state
), rests AS (
    UPDATE withdrawals.endpoints e SET failures = failures + 1, rest_until = clock_timestamp() + :rest,
        disabled_at = CASE WHEN :gone THEN coalesce(disabled_at, now()) ELSE disabled_at END,
        disabled_because = CASE WHEN :gone THEN coalesce(disabled_because, :because) ELSE disabled_because END
    FROM mine WHERE e.id = mine.endpoint_id
)
SELECT state FROM mine
""")


def record_failure(
    connection: Connection,
    claimed: ClaimedDelivery,
    *,
    status: int | None,
    error: str | None,
    rest: timedelta,
    most_attempts: int,
) -> str | None:
    """Record a failed attempt. Returns the delivery's new state, None when the claim was lost.

    The delivery is sent again after the endpoint's `rest`, or has `failed` after `most_attempts`. HTTP status 410
    disables the endpoint.
    """
    values = {"id": claimed.id, "token": claimed.token, "status": status, "error": error}
    values |= {"rest": rest, "most": most_attempts, "gone": status == 410, "because": _GONE}
    state = connection.scalar(_FAILED, values)
    return None if state is None else str(state)


# `again` makes the delivery due, with all its attempts. Its endpoint's rest ends, or it would still wait.
_REPLAY = text("""
WITH again AS (
    UPDATE withdrawals.deliveries d SET state = 'due', attempts = 0, delivered_at = NULL
    FROM withdrawals.endpoints e WHERE d.id = :id AND d.organisation_id = :organisation_id
        AND d.state IN ('failed', 'delivered') AND e.id = d.endpoint_id AND e.disabled_at IS NULL
    RETURNING d.endpoint_id
)
UPDATE withdrawals.endpoints e SET rest_until = '-infinity' FROM again WHERE e.id = again.endpoint_id
""")


def replay(connection: Connection, organisation_id: int, delivery_id: int) -> bool:
    """Make a delivery due again that failed or arrived. False: it is on its way, or its endpoint is disabled."""
    return connection.execute(_REPLAY, {"id": delivery_id, "organisation_id": organisation_id}).rowcount == 1


_OLD = "SELECT id FROM withdrawals.deliveries WHERE state = '{state}' AND {time} < now() - CAST(:keep AS interval)"
_OLD_DELIVERED = _OLD.format(state="delivered", time="delivered_at")
# A failed delivery has no time of its end; it was given up within days of its making.
_OLD_FAILED = _OLD.format(state="failed", time="created_at")
# What waits for an endpoint that nobody resumes would stay for ever.
_OLD_PAUSED = """SELECT d.id FROM withdrawals.endpoints e JOIN withdrawals.deliveries d ON d.endpoint_id = e.id
    WHERE e.paused_at < now() - CAST(:keep AS interval) AND d.state = 'due'
        AND d.created_at < now() - CAST(:keep AS interval)"""
ANY_OLD = Step(
    "deliveries_old",
    "SELECT " + " OR ".join(f"EXISTS ({old})" for old in (_OLD_DELIVERED, _OLD_FAILED, _OLD_PAUSED)),
)
"""Whether `delete_old` finds any."""
_DELETE_OLD = "DELETE FROM withdrawals.deliveries WHERE id IN ({old} LIMIT :most FOR UPDATE {of} SKIP LOCKED)"
_DELETE_DELIVERED = text(_DELETE_OLD.format(old=_OLD_DELIVERED + " ORDER BY delivered_at", of=""))
_DELETE_FAILED = text(_DELETE_OLD.format(old=_OLD_FAILED + " ORDER BY created_at", of=""))
_DELETE_PAUSED = text(_DELETE_OLD.format(old=_OLD_PAUSED, of="OF d"))
_DELETES = (_DELETE_DELIVERED, _DELETE_FAILED, _DELETE_PAUSED)


def delete_old(connection: Connection, *, keep: timedelta, most: int = 5000) -> int:
    """Delete deliveries that arrived, failed for good, or waited for a paused endpoint, longer ago than `keep`.

    Up to `most` of each; how many.
    """
    values = {"keep": keep, "most": most}
    return sum(connection.execute(statement, values).rowcount for statement in _DELETES)
