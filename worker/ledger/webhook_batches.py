"""Webhooks that follow the feed: which have something to be sent, the place up to which it arrived, and pauses."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Connection, func, literal_column, text, update

from worker.ledger.feed import Place
from worker.models import endpoints
from worker.one_message import Step

_NO_REST: ColumnElement[Any] = literal_column("CAST('-infinity' AS timestamptz)")


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """The right to send an endpoint what follows its place, until the lease runs out."""

    endpoint_id: int
    organisation_id: int
    token: UUID
    url: str
    secret: str
    """Sealed."""
    previous_secret: str | None
    """Sealed; while the receiver may still know no other."""
    events: list[str]
    feed_cursor: str | None
    failures: int
    """Failed attempts at the endpoint in a row."""


# An endpoint has one batch on its way at most, so its events arrive in order. Endpoints take turns: the lease of the
# last batch, which has run out or was ended, says whose is next.
_SENDABLE = """
FROM withdrawals.endpoints e WHERE e.follows AND e.disabled_at IS NULL AND e.paused_at IS NULL
    AND e.rest_until <= clock_timestamp() AND (e.feed_lease_until IS NULL OR e.feed_lease_until < clock_timestamp())
    AND EXISTS (SELECT FROM withdrawals.feed f
        WHERE f.organisation_id = e.organisation_id AND f.position > e.feed_position)
"""
ANY_DUE = Step("batch_due", f"SELECT EXISTS (SELECT {_SENDABLE})")


_CLAIM = text(f"""
UPDATE withdrawals.endpoints SET feed_token = :token, feed_lease_until = clock_timestamp() + :lease
WHERE id = (SELECT e.id {_SENDABLE} ORDER BY e.feed_lease_until NULLS FIRST, e.id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id AS endpoint_id, organisation_id, feed_token AS token, url, secret,
    CASE WHEN previous_until > now() THEN previous_secret END AS previous_secret, events, feed_cursor, failures
""")


def claim(connection: Connection, *, lease: timedelta) -> ClaimedBatch | None:
    """Claim the next batch of an endpoint. None: no batch is due."""
    row = connection.execute(_CLAIM, {"token": uuid4(), "lease": lease}).mappings().one_or_none()
    return ClaimedBatch(**row) if row else None


def advance(connection: Connection, claimed: ClaimedBatch, place: Place, *, arrived: bool) -> bool:
    """Record that everything up to a place arrived, or was not wanted. False: the claim was lost."""
    values: dict[str, Any] = {
        "feed_cursor": str(place),
        "feed_position": place.finished,
        "feed_lease_until": func.clock_timestamp(),
    }
    if arrived:
        values |= {"failures": 0, "failing_since": None, "rest_until": _NO_REST}
    still_ours = endpoints.c.id == claimed.endpoint_id, endpoints.c.feed_token == claimed.token
    unchanged = endpoints.c.feed_cursor.is_not_distinct_from(claimed.feed_cursor)
    return connection.execute(update(endpoints).where(*still_ours, unchanged).values(values)).rowcount == 1


# What fails for long is paused, so that it shows; what is gone is disabled.
_FAILED = text("""
UPDATE withdrawals.endpoints SET failures = failures + 1, rest_until = clock_timestamp() + :rest,
    feed_lease_until = clock_timestamp(), failing_since = coalesce(failing_since, now()),
    paused_at = CASE WHEN failing_since < now() - CAST(:patience AS interval) THEN now() END,
    paused_because = CASE WHEN failing_since < now() - CAST(:patience AS interval) THEN CAST(:because AS text) END,
    disabled_at = CASE WHEN :gone THEN coalesce(disabled_at, now()) ELSE disabled_at END,
    disabled_because = CASE WHEN :gone THEN coalesce(disabled_because, 'it answered 410 Gone') ELSE disabled_because END
WHERE id = :id AND feed_token = :token AND paused_at IS NULL
RETURNING paused_at IS NOT NULL
""")


def record_failure(
    connection: Connection, claimed: ClaimedBatch, *, because: str, gone: bool, rest: timedelta, patience: timedelta
) -> bool:
    """Record a failed attempt; whether the endpoint is paused now, because it has failed for longer than `patience`.

    `gone`: it is disabled, because it asked for that.
    """
    values = {"id": claimed.endpoint_id, "token": claimed.token, "because": because, "gone": gone}
    return bool(connection.scalar(_FAILED, {**values, "rest": rest, "patience": patience}))


def pause(connection: Connection, claimed: ClaimedBatch, *, because: str) -> None:
    """Send an endpoint no more batches until somebody resumes it."""
    still_ours = endpoints.c.id == claimed.endpoint_id, endpoints.c.feed_token == claimed.token
    paused = {"paused_at": func.now(), "paused_because": because, "feed_lease_until": None}
    connection.execute(update(endpoints).where(*still_ours, endpoints.c.paused_at.is_(None)).values(paused))


def resume(connection: Connection, organisation_id: int, endpoint_id: int, place: Place | None) -> bool:
    """Send again, batches from another place if one is given. False: there is no such endpoint to go on with.

    A batch that is on its way loses its claim, and is not counted as arrived.
    """
    values: dict[str, Any] = {"paused_at": None, "paused_because": None, "failing_since": None, "failures": 0}
    values |= {"rest_until": _NO_REST, "feed_token": None, "feed_lease_until": None}
    if place is not None:
        values |= {"feed_cursor": str(place), "feed_position": place.finished}
    its = endpoints.c.id == endpoint_id, endpoints.c.organisation_id == organisation_id
    can_go_on = endpoints.c.follows if place is not None else endpoints.c.follows | endpoints.c.paused_at.is_not(None)
    enabled = update(endpoints).where(*its, can_go_on, endpoints.c.disabled_at.is_(None))
    return connection.execute(enabled.values(values)).rowcount == 1
