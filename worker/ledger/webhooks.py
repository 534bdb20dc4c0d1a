"""Webhooks that go out: endpoints, and deliveries on their way.

Deliveries are written by triggers (migration 0010), in the transaction that decided what they tell of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an organisation wants to be told; without its secret."""

    id: int
    organisation_id: int
    url: str
    events: list[str]
    failures: int
    rest_until: datetime | None
    created_at: datetime
    created_by: str
    disabled_at: datetime | None
    disabled_because: str | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing that one endpoint is told."""

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
class Sending:
    """A claimed delivery, with what is needed to send it."""

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
    failures: int


_ENDPOINT = """id, organisation_id, url, events, failures,
    CASE WHEN rest_until > now() THEN rest_until END AS rest_until,
    created_at, created_by, disabled_at, disabled_because"""
_INSERT = text(f"""
INSERT INTO withdrawals.endpoints (organisation_id, url, events, secret, created_by)
VALUES (:organisation_id, :url, :events, :secret, :created_by) RETURNING {_ENDPOINT}
""")


def insert(
    connection: Connection, *, organisation_id: int, url: str, events: Sequence[str], secret: str, created_by: str
) -> Endpoint:
    """A new endpoint; `secret` is sealed."""
    values = {"organisation_id": organisation_id, "url": url, "events": list(events), "secret": secret}
    return Endpoint(**connection.execute(_INSERT, {**values, "created_by": created_by}).mappings().one())


_WITH_SECRET = text(
    "SELECT id FROM withdrawals.endpoints WHERE organisation_id = :organisation_id AND secret = :secret"
)


def find_by_secret(connection: Connection, organisation_id: int, secret: str) -> int | None:
    """The endpoint that a call has made already, whose answer was lost: its sealed secret is its alone."""
    found = connection.scalar(_WITH_SECRET, {"organisation_id": organisation_id, "secret": secret})
    return None if found is None else int(found)


_ENDPOINTS = text(
    f"SELECT {_ENDPOINT} FROM withdrawals.endpoints WHERE organisation_id = :organisation_id ORDER BY id DESC"
)


def endpoints(connection: Connection, organisation_id: int) -> list[Endpoint]:
    """Every endpoint of an organisation, disabled ones included, newest first."""
    return [Endpoint(**row) for row in connection.execute(_ENDPOINTS, {"organisation_id": organisation_id}).mappings()]


_DISABLE = text(f"""
UPDATE withdrawals.endpoints SET disabled_at = coalesce(disabled_at, now()),
    disabled_because = coalesce(disabled_because, :because)
WHERE id = :id AND organisation_id = :organisation_id RETURNING {_ENDPOINT}
""")


def disable(connection: Connection, organisation_id: int, endpoint_id: int, *, because: str) -> Endpoint | None:
    """Send an endpoint nothing any more; None when there is none of this id."""
    parameters = {"id": endpoint_id, "organisation_id": organisation_id, "because": because}
    row = connection.execute(_DISABLE, parameters).mappings().one_or_none()
    return Endpoint(**row) if row else None


_WRITE = text("""
INSERT INTO withdrawals.deliveries (endpoint_id, organisation_id, type, data)
SELECT id, organisation_id, :type, '{}' FROM withdrawals.endpoints
WHERE id = :id AND organisation_id = :organisation_id AND disabled_at IS NULL RETURNING id
""")


def write_test(connection: Connection, organisation_id: int, endpoint_id: int) -> int | None:
    """A delivery that tells of nothing; None when there is no such live endpoint."""
    parameters = {"id": endpoint_id, "organisation_id": organisation_id, "type": "test"}
    found = connection.scalar(_WRITE, parameters)
    return None if found is None else int(found)


# One failing endpoint rests and keeps nobody else waiting; of the others each gets its turn.
_DUE = """
SELECT d.id FROM withdrawals.endpoints e CROSS JOIN LATERAL (
    SELECT d.id FROM withdrawals.deliveries d
    WHERE d.endpoint_id = e.id AND d.state IN ('due', 'sending')
        AND (d.state = 'due' OR d.lease_until < clock_timestamp())
    ORDER BY d.attempts, d.id LIMIT {each}) d
WHERE e.disabled_at IS NULL AND e.rest_until <= clock_timestamp()
"""
_ANY_DUE = text(f"SELECT EXISTS ({_DUE.format(each=1)})")


def any_due(connection: Connection) -> bool:
    """Whether there is something to send now."""
    return bool(connection.scalar(_ANY_DUE))


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
    e.failures
"""
_CLAIM_DUE = text(_CLAIM.format(which=f"d.id IN ({_DUE.format(each=8)})"))
_CLAIM_ONE = text(_CLAIM.format(which="d.id = :id"))


def claim(connection: Connection, *, lease: timedelta, delivery_id: int | None = None) -> Sending | None:
    """Take one due delivery, or that one; None when nothing is due."""
    parameters: dict[str, Any] = {"token": uuid4(), "lease": lease}
    statement = _CLAIM_DUE
    if delivery_id is not None:
        statement, parameters["id"] = _CLAIM_ONE, delivery_id
    row = connection.execute(statement, parameters).mappings().one_or_none()
    return Sending(**row) if row else None


_DELIVERED = text("""
WITH mine AS (
    UPDATE withdrawals.deliveries SET state = 'delivered', delivered_at = now(), lease_until = NULL,
        last_status = :status, last_error = NULL
    WHERE id = :id AND token = :token AND state = 'sending' RETURNING endpoint_id
)
UPDATE withdrawals.endpoints e SET failures = 0, rest_until = '-infinity' FROM mine
WHERE e.id = mine.endpoint_id AND e.failures > 0
""")


def delivered(connection: Connection, sending: Sending, status: int) -> None:
    """Record that a delivery arrived; its endpoint is well again."""
    connection.execute(_DELIVERED, {"id": sending.id, "token": sending.token, "status": status})


_NOT_DELIVERED = text("""
WITH mine AS (
    UPDATE withdrawals.deliveries SET state = CASE WHEN attempts >= :most THEN 'failed' ELSE 'due' END,
        lease_until = NULL, last_status = :status, last_error = :error
    WHERE id = :id AND token = :token AND state = 'sending' RETURNING endpoint_id, state
), rests AS (
    UPDATE withdrawals.endpoints e SET failures = failures + 1, rest_until = clock_timestamp() + :rest,
        disabled_at = CASE WHEN :gone THEN coalesce(disabled_at, now()) ELSE disabled_at END,
        disabled_because = CASE WHEN :gone THEN coalesce(disabled_because, 'it answered 410 Gone')
            ELSE disabled_because END
    FROM mine WHERE e.id = mine.endpoint_id
)
SELECT state FROM mine
""")


def not_delivered(
    connection: Connection, sending: Sending, *, status: int | None, error: str | None, rest: timedelta, most: int
) -> str | None:
    """Record a failure: tried again after the endpoint's rest, `failed` after `most`; 410 disables the endpoint."""
    values = {"id": sending.id, "token": sending.token, "status": status, "error": error}
    values |= {"rest": rest, "most": most, "gone": status == 410}
    state = connection.scalar(_NOT_DELIVERED, values)
    return None if state is None else str(state)


_DELIVERY = "id, endpoint_id, type, data, state, attempts, last_status, last_error, created_at, delivered_at"
_DELIVERIES = text(f"""
SELECT {_DELIVERY} FROM withdrawals.deliveries
WHERE endpoint_id = :endpoint_id AND organisation_id = :organisation_id
    AND (CAST(:state AS text) IS NULL OR state = :state)
    AND (CAST(:before AS bigint) IS NULL OR id < :before)
ORDER BY id DESC LIMIT :limit
""")


def deliveries(
    connection: Connection,
    organisation_id: int,
    endpoint_id: int,
    *,
    state: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[Delivery]:
    """What an endpoint was and will be told, newest first."""
    parameters = {"organisation_id": organisation_id, "endpoint_id": endpoint_id, "state": state}
    rows = connection.execute(_DELIVERIES, {**parameters, "before": before, "limit": limit})
    return [Delivery(**row) for row in rows.mappings()]


_READ = text(f"SELECT {_DELIVERY} FROM withdrawals.deliveries WHERE id = :id AND organisation_id = :organisation_id")


def delivery(connection: Connection, organisation_id: int, delivery_id: int) -> Delivery | None:
    """One delivery of an organisation."""
    parameters = {"id": delivery_id, "organisation_id": organisation_id}
    row = connection.execute(_READ, parameters).mappings().one_or_none()
    return Delivery(**row) if row else None


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
    """Let a delivery that failed or arrived be sent again; False when it is on its way or its endpoint disabled."""
    return connection.execute(_REPLAY, {"id": delivery_id, "organisation_id": organisation_id}).rowcount == 1


_FORGET = text("""
DELETE FROM withdrawals.deliveries WHERE id IN (
    SELECT id FROM withdrawals.deliveries
    WHERE state = 'delivered' AND delivered_at < now() - interval '30 days' LIMIT :most)
""")


def forget(connection: Connection, *, most: int = 5000) -> int:
    """Drop deliveries that arrived more than 30 days ago."""
    return connection.execute(_FORGET, {"most": most}).rowcount
