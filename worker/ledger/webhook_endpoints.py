"""Webhook endpoints: the addresses to which an organisation wants events to be sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, case, func, insert, select, update

from worker.ledger import feed
from worker.models import endpoints


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """An endpoint, without its secret."""

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
    previous_until: datetime | None
    """Until when deliveries are signed with the secret before, too."""
    feed_cursor: str | None
    """The place in the feed up to which everything arrived; None where it does not follow the feed."""
    failing_since: datetime | None
    paused_at: datetime | None
    paused_because: str | None
    rotated_at: datetime | None
    """When its secret was last replaced."""


_COLUMNS = (
    endpoints.c.id,
    endpoints.c.organisation_id,
    endpoints.c.url,
    endpoints.c.events,
    endpoints.c.failures,
    case((endpoints.c.rest_until > func.now(), endpoints.c.rest_until)).label("rest_until"),
    endpoints.c.created_at,
    endpoints.c.created_by,
    endpoints.c.disabled_at,
    endpoints.c.disabled_because,
    case((endpoints.c.previous_until > func.now(), endpoints.c.previous_until)).label("previous_until"),
    case((endpoints.c.follows, endpoints.c.feed_cursor)).label("feed_cursor"),
    endpoints.c.failing_since,
    endpoints.c.paused_at,
    endpoints.c.paused_because,
    endpoints.c.rotated_at,
)


def insert_endpoint(
    connection: Connection, *, organisation_id: int, url: str, events: Sequence[str], secret: str, created_by: str
) -> EndpointRecord:
    """Insert an endpoint, which follows the feed from its end on. `secret`: sealed."""
    place = feed.find_end(connection, organisation_id)
    new = insert(endpoints).values(
        organisation_id=organisation_id,
        url=url,
        events=list(events),
        secret=secret,
        created_by=created_by,
        feed_cursor=str(place),
        feed_position=place.position,
    )
    return EndpointRecord(**connection.execute(new.returning(*_COLUMNS)).mappings().one())


def find_by_secret(connection: Connection, organisation_id: int, secret: str) -> EndpointRecord | None:
    """The endpoint with this sealed secret: a call whose answer was lost has made it already."""
    found = select(*_COLUMNS).where(endpoints.c.organisation_id == organisation_id, endpoints.c.secret == secret)
    row = connection.execute(found).mappings().one_or_none()
    return EndpointRecord(**row) if row else None


def find_endpoint(connection: Connection, organisation_id: int, endpoint_id: int) -> EndpointRecord | None:
    """One endpoint of an organisation."""
    one = select(*_COLUMNS).where(endpoints.c.id == endpoint_id, endpoints.c.organisation_id == organisation_id)
    row = connection.execute(one).mappings().one_or_none()
    return EndpointRecord(**row) if row else None


def list_endpoints(connection: Connection, organisation_id: int) -> list[EndpointRecord]:
    """Every endpoint of an organisation, disabled ones included, newest first."""
    own = select(*_COLUMNS).where(endpoints.c.organisation_id == organisation_id).order_by(endpoints.c.id.desc())
    return [EndpointRecord(**row) for row in connection.execute(own).mappings()]


def lock(connection: Connection, organisation_id: int, endpoint_id: int) -> EndpointRecord | None:
    """Lock an endpoint of an organisation."""
    one = select(*_COLUMNS).where(endpoints.c.id == endpoint_id, endpoints.c.organisation_id == organisation_id)
    row = connection.execute(one.with_for_update()).mappings().one_or_none()
    return EndpointRecord(**row) if row else None


def rotate_secret(
    connection: Connection, organisation_id: int, endpoint_id: int, *, secret: str, keep: timedelta
) -> EndpointRecord | None:
    """Give an enabled endpoint a new sealed secret; deliveries are signed with the one before too, for `keep`.

    None: the organisation has no such enabled endpoint.
    """
    rotated = (
        update(endpoints)
        .where(
            endpoints.c.id == endpoint_id,
            endpoints.c.organisation_id == organisation_id,
            endpoints.c.disabled_at.is_(None),
        )
        .values(
            secret=secret,
            previous_secret=endpoints.c.secret,
            previous_until=func.now() + keep,
            rotated_at=func.now(),
        )
    )
    row = connection.execute(rotated.returning(*_COLUMNS)).mappings().one_or_none()
    return EndpointRecord(**row) if row else None


def pause_endpoint(
    connection: Connection, organisation_id: int, endpoint_id: int, *, because: str
) -> EndpointRecord | None:
    """Send an endpoint nothing until it is resumed. The first time and cause stay. None: there is no enabled one."""
    paused = (
        update(endpoints)
        .where(
            endpoints.c.id == endpoint_id,
            endpoints.c.organisation_id == organisation_id,
            endpoints.c.disabled_at.is_(None),
        )
        .values(
            paused_at=func.coalesce(endpoints.c.paused_at, func.now()),
            paused_because=func.coalesce(endpoints.c.paused_because, because),
        )
    )
    row = connection.execute(paused.returning(*_COLUMNS)).mappings().one_or_none()
    return EndpointRecord(**row) if row else None


def disable_endpoint(
    connection: Connection, organisation_id: int, endpoint_id: int, *, because: str
) -> EndpointRecord | None:
    """Send an endpoint nothing more. The first time and cause stay. None: the organisation has no such endpoint."""
    disabled = (
        update(endpoints)
        .where(endpoints.c.id == endpoint_id, endpoints.c.organisation_id == organisation_id)
        .values(
            disabled_at=func.coalesce(endpoints.c.disabled_at, func.now()),
            disabled_because=func.coalesce(endpoints.c.disabled_because, because),
        )
    )
    row = connection.execute(disabled.returning(*_COLUMNS)).mappings().one_or_none()
    return EndpointRecord(**row) if row else None
