"""HR sources: who may send events about an organisation's people, and what a deactivation does."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ARRAY, Connection, Row, Text, any_, bindparam, case, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from worker.models import sources
from worker.records import DeactivationPolicy


class Refusal(StrEnum):
    """Why a request at the address of a source was refused."""

    SIGNATURE = "signature"
    """Its signature, or the secret that it came with, is wrong or missing."""
    TIME = "time"
    """The signature is right, and its time is too far from now."""


@dataclass(frozen=True, slots=True)
class RegisteredSource:
    """An HR system that may send events; without its secrets."""

    id: int
    organisation_id: int
    name: str
    kind: str
    on_deactivate: str
    grace_hours: int
    created_at: datetime
    created_by: str
    disabled_at: datetime | None
    previous_until: datetime | None
    """Until then the secret before the last rotation is accepted too."""
    api_url: str | None = None
    """Where the API of the HR system is; None: at its usual address, or it is not asked."""
    last_event_at: datetime | None = None
    """When it last sent something that was genuine, to the minute."""
    rotated_at: datetime | None = None
    """When its secret was last replaced."""
    refused_signature: int = 0
    refused_time: int = 0
    """How many requests were refused since `refused_since`, by cause."""
    refused_since: datetime | None = None
    refused_at: datetime | None = None
    """When the last one was refused; None: none was."""

    @property
    def grace(self) -> timedelta:
        """How long the withdrawal waits after a deactivation."""
        return timedelta(hours=self.grace_hours)


_IS_ROTATING = sources.c.previous_until > func.now()
_SOURCE = (
    sources.c.id,
    sources.c.organisation_id,
    sources.c.name,
    sources.c.kind,
    sources.c.on_deactivate,
    sources.c.grace_hours,
    sources.c.created_at,
    sources.c.created_by,
    sources.c.disabled_at,
    case((_IS_ROTATING, sources.c.previous_until)).label("previous_until"),
    sources.c.api_url,
    sources.c.last_event_at,
    sources.c.rotated_at,
    sources.c.refused_signature,
    sources.c.refused_time,
    sources.c.refused_since,
    sources.c.refused_at,
)
_SECRETS = (sources.c.secret, case((_IS_ROTATING, sources.c.previous_secret)).label("previous_secret"))
_LIVE = sources.c.disabled_at.is_(None)


def insert_source(
    connection: Connection,
    *,
    organisation_id: int,
    name: str,
    kind: str,
    on_deactivate: str,
    grace_hours: int,
    secret: str,
    created_by: str,
    api_key: str | None = None,
    api_url: str | None = None,
) -> RegisteredSource | None:
    """A new source, secret and API key sealed; None when a live source of the organisation has this name."""
    row = insert(sources).values(
        organisation_id=organisation_id,
        name=name,
        kind=kind,
        on_deactivate=on_deactivate,
        grace_hours=grace_hours,
        secret=secret,
        created_by=created_by,
        api_key=api_key,
        api_url=api_url,
    )
    unless_taken = row.on_conflict_do_nothing(
        index_elements=[sources.c.organisation_id, sources.c.name], index_where=_LIVE
    )
    return _one(connection.execute(unless_taken.returning(*_SOURCE)).one_or_none())


def list_sources(connection: Connection, organisation_id: int) -> list[RegisteredSource]:
    """Every source of an organisation, disabled ones included, newest first."""
    found = select(*_SOURCE).where(sources.c.organisation_id == organisation_id).order_by(sources.c.id.desc())
    return [RegisteredSource(*row) for row in connection.execute(found)]


_LIST_LIVE = select(*_SOURCE, *_SECRETS).where(_LIVE).order_by(sources.c.id)
_OF_NAME = _LIST_LIVE.where(sources.c.kind == bindparam("kind"), sources.c.name == bindparam("name"))  # on every event
_OF_ID = _LIST_LIVE.where(sources.c.kind == bindparam("kind"), sources.c.id == bindparam("id"))


def list_live(connection: Connection) -> list[tuple[RegisteredSource, list[str]]]:
    """Live sources of all organisations, each with its one or two sealed secrets, the newest first."""
    return [_with_secrets(row) for row in connection.execute(_LIST_LIVE)]


def find_by_name(connection: Connection, kind: str, name: str) -> list[tuple[RegisteredSource, list[str]]]:
    """The live sources of a name, of all organisations, as `list_live` returns them."""
    return [_with_secrets(row) for row in connection.execute(_OF_NAME, {"kind": kind, "name": name})]


def find_by_id(connection: Connection, kind: str, source_id: int) -> list[tuple[RegisteredSource, list[str]]]:
    """The live source of an id, of any organisation, as `list_live` returns it; or none."""
    return [_with_secrets(row) for row in connection.execute(_OF_ID, {"kind": kind, "id": source_id})]


def find(connection: Connection, organisation_id: int, source_id: int) -> RegisteredSource | None:
    """A source of an organisation, also one that is disabled."""
    its = select(*_SOURCE).where(sources.c.organisation_id == organisation_id, sources.c.id == source_id)
    return _one(connection.execute(its).one_or_none())


_HEARD_BEFORE = or_(sources.c.last_event_at.is_(None), sources.c.last_event_at < func.now() - timedelta(minutes=1))


def record_events(connection: Connection, source_ids: Sequence[int]) -> None:
    """Record that sources send events, each at most once a minute. One that another process records is left to it."""
    due = select(sources.c.id).where(sources.c.id.in_(source_ids), _HEARD_BEFORE).with_for_update(skip_locked=True)
    connection.execute(update(sources).where(sources.c.id.in_(due)).values(last_event_at=func.now()))


# After a day without one the count begins anew.
_RECORD_REFUSALS = text("""
WITH locked AS (
    SELECT id, coalesce(refused_at > now() - interval '1 day', false) AS goes_on
    FROM withdrawals.sources WHERE id = ANY(:ids) ORDER BY id FOR UPDATE
)
UPDATE withdrawals.sources s SET
    refused_signature = CASE WHEN l.goes_on THEN s.refused_signature ELSE 0 END + n.signature,
    refused_time = CASE WHEN l.goes_on THEN s.refused_time ELSE 0 END + n.time,
    refused_since = CASE WHEN l.goes_on THEN s.refused_since ELSE now() END,
    refused_at = now()
FROM unnest(CAST(:ids AS bigint[]), CAST(:signature AS bigint[]), CAST(:time AS bigint[])) AS n (id, signature, time)
JOIN locked l USING (id)
WHERE s.id = n.id
""")


def record_refusals(connection: Connection, refused: Mapping[tuple[int, Refusal], int]) -> None:
    """Add requests that were refused to the counts of their sources. `refused`: how many, by source and cause."""
    ids = sorted({source_id for source_id, _ in refused})
    counts = {str(why): [refused.get((one, why), 0) for one in ids] for why in Refusal}
    connection.execute(_RECORD_REFUSALS, {"ids": ids, **counts})


def lock(connection: Connection, organisation_id: int, source_id: int) -> tuple[RegisteredSource, str] | None:
    """Lock a live source; with its newest secret, sealed."""
    row = connection.execute(
        select(*_SOURCE, *_SECRETS)
        .where(sources.c.organisation_id == organisation_id, sources.c.id == source_id, _LIVE)
        .with_for_update()
    ).one_or_none()
    if row is None:
        return None
    source, secrets = _with_secrets(row)
    return source, secrets[0]


def rotate(
    connection: Connection, organisation_id: int, source_id: int, *, secret: str, keep: timedelta
) -> RegisteredSource:
    """Give a locked source a new sealed secret; the one before is accepted for `keep`, any older one ends."""
    previous: dict[str, Any] = {"previous_secret": None, "previous_until": None}
    if keep > timedelta(0):
        previous = {"previous_secret": sources.c.secret, "previous_until": func.now() + keep}
    changed = (
        update(sources)
        .where(sources.c.id == source_id, sources.c.organisation_id == organisation_id)
        .values(secret=secret, rotated_at=func.now(), **previous)
    )
    return RegisteredSource(*connection.execute(changed.returning(*_SOURCE)).one())


def set_api(
    connection: Connection, organisation_id: int, source_id: int, *, api_key: str, api_url: str | None
) -> RegisteredSource:
    """Give a locked source another sealed API key, and the address that belongs to it."""
    changed = (
        update(sources)
        .where(sources.c.id == source_id, sources.c.organisation_id == organisation_id)
        .values(api_key=api_key, api_url=api_url)
    )
    return RegisteredSource(*connection.execute(changed.returning(*_SOURCE)).one())


def set_policy(
    connection: Connection, organisation_id: int, source_id: int, *, on_deactivate: str, grace_hours: int
) -> RegisteredSource:
    """Say what the deactivations of a locked source do from now on."""
    changed = (
        update(sources)
        .where(sources.c.id == source_id, sources.c.organisation_id == organisation_id)
        .values(on_deactivate=on_deactivate, grace_hours=grace_hours)
    )
    return RegisteredSource(*connection.execute(changed.returning(*_SOURCE)).one())


def disable(connection: Connection, organisation_id: int, source_id: int) -> RegisteredSource | None:
    """Accept nothing from a source any more; None when the organisation has no such source."""
    changed = (
        update(sources)
        .where(sources.c.id == source_id, sources.c.organisation_id == organisation_id)
        .values(disabled_at=func.coalesce(sources.c.disabled_at, func.now()))
    )
    return _one(connection.execute(changed.returning(*_SOURCE)).one_or_none())


# The live source of a name comes last, behind the disabled ones: the last row of a name counts.
_POLICIES = (
    select(sources.c.name, sources.c.on_deactivate, sources.c.grace_hours)
    .where(
        sources.c.organisation_id == bindparam("organisation_id"),
        sources.c.name == any_(bindparam("names", type_=ARRAY(Text))),
    )
    .order_by(_LIVE, sources.c.id)
)


def find_policies(connection: Connection, organisation_id: int, names: Iterable[str]) -> dict[str, DeactivationPolicy]:
    """What the deactivations of sources do. Those that are not registered (`scim`, `cli`) withdraw at once.

    After its source was disabled an event keeps that source's policy, unless a live one has the name now.
    """
    wanted = sorted(set(names))
    rows = connection.execute(_POLICIES, {"organisation_id": organisation_id, "names": wanted})
    found = {row.name: DeactivationPolicy(row.on_deactivate, timedelta(hours=row.grace_hours)) for row in rows}
    return {name: found.get(name, DeactivationPolicy()) for name in wanted}


def _one(row: Sequence[Any] | None) -> RegisteredSource | None:
    return RegisteredSource(*row) if row else None


def _with_secrets(row: Row[Any]) -> tuple[RegisteredSource, list[str]]:
    source: tuple[Any, ...] = row[: -len(_SECRETS)]
    return RegisteredSource(*source), [sealed for sealed in (row.secret, row.previous_secret) if sealed is not None]
