"""Every value that is sealed with WITHDRAWALS_SECRET_KEY, so that it can be sealed anew with another key."""

from collections.abc import Iterator

from sqlalchemy import Column, Connection, select, update

from worker.models import endpoints, notification_targets, organisation_settings, sources

PLACES: dict[str, tuple[str, Column[int], Column[str] | Column[str | None]]] = {
    "sources.secret": ("hr-secret", sources.c.id, sources.c.secret),
    "sources.previous_secret": ("hr-secret", sources.c.id, sources.c.previous_secret),
    "sources.api_key": ("hr-secret", sources.c.id, sources.c.api_key),
    "endpoints.secret": ("webhook-secret", endpoints.c.id, endpoints.c.secret),
    "endpoints.previous_secret": ("webhook-secret", endpoints.c.id, endpoints.c.previous_secret),
    "notification_targets.address": (
        "notification-address", notification_targets.c.id, notification_targets.c.address,
    ),
    "organisation_settings.erasure_key": (
        "erasure-key", organisation_settings.c.organisation_id, organisation_settings.c.erasure_key,
    ),
}  # fmt: skip
"""Where sealed values are: the purpose that they are sealed for, the key of a row, and the column."""


def read_all(connection: Connection, place: str) -> Iterator[tuple[int, str]]:
    """The sealed values of a place, by the key of their row."""
    _, key, column = PLACES[place]
    for row_key, value in connection.execute(select(key, column).where(column.is_not(None)).order_by(key)).all():
        yield row_key, str(value)


def replace(connection: Connection, place: str, row_key: int, *, before: str, after: str) -> bool:
    """Replace one sealed value; False: it has changed since it was read."""
    _, key, column = PLACES[place]
    changed = update(column.table).where(key == row_key, column == before).values({column.name: after})
    return connection.execute(changed).rowcount == 1
