"""Learners as a directory: what SCIM sees of them, and the little that it may write."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Learner:
    """A learner with what SCIM remembers of it."""

    id: int
    external_id: str
    email: str | None
    display_name: str | None
    active: bool
    created_at: datetime | None
    changed_at: datetime | None
    deleted_at: datetime | None
    last_call: UUID | None


_READ = """
SELECT l.id, l.external_id, l.email, l.display_name, l.active, s.created_at, s.changed_at, s.deleted_at, s.last_call
FROM lms.learners l LEFT JOIN withdrawals.scim_users s ON s.learner_id = l.id
WHERE l.organisation_id = :organisation_id
"""
_ONE = text(_READ + "AND l.id = :id")
_LOCKED = text(_READ + "AND l.id = :id FOR UPDATE OF l")


def learner(connection: Connection, organisation_id: int, learner_id: int, *, lock: bool = False) -> Learner | None:
    """One learner of an organisation, also one that SCIM has deleted; `lock`: until the transaction ends."""
    parameters = {"organisation_id": organisation_id, "id": learner_id}
    row = connection.execute(_LOCKED if lock else _ONE, parameters).mappings().one_or_none()
    return Learner(**row) if row else None


_ALIKE = text(
    _READ
    + """AND (l.external_id = :external_id OR lower(l.email) = lower(:email)
    OR l.email IS NULL AND l.external_id = :email)
ORDER BY l.external_id = :external_id DESC, l.id"""
)


def alike(connection: Connection, organisation_id: int, *, external_id: str, email: str) -> list[Learner]:
    """Learners with this external id or this name; the one with the external id comes first.

    One without an address goes by its external id (decision record 0010).
    """
    parameters = {"organisation_id": organisation_id, "external_id": external_id, "email": email}
    return [Learner(**row) for row in connection.execute(_ALIKE, parameters).mappings()]


def find(
    connection: Connection,
    organisation_id: int,
    condition: str,
    values: Mapping[str, Any],
    *,
    offset: int,
    limit: int,
) -> tuple[int, list[Learner]]:
    """How many live users match, and a page of them by id.

    `condition`: SQL over learners `l` that `worker/web/scim/filtering.py` made; its values are bound.
    """
    where = f"{_READ} AND s.deleted_at IS NULL AND ({condition})"
    parameters = {"organisation_id": organisation_id, **values}
    total = int(connection.scalar(text(f"SELECT count(*) FROM ({where}) found"), parameters) or 0)
    if limit == 0 or offset >= total:
        return total, []
    page = text(f"{where} ORDER BY l.id OFFSET :offset LIMIT :limit")
    rows = connection.execute(page, {**parameters, "offset": offset, "limit": limit}).mappings()
    return total, [Learner(**row) for row in rows]


_CREATE = text("""
INSERT INTO lms.learners (organisation_id, external_id, email, display_name, active)
VALUES (:organisation_id, :external_id, :email, :display_name, :active)
ON CONFLICT DO NOTHING RETURNING id
""")


def create(connection: Connection, **values: Any) -> int | None:
    """A new learner's id; None when one with this external id or address came first."""
    found = connection.scalar(_CREATE, values)
    return None if found is None else int(found)


_UPDATE = text("""
UPDATE lms.learners SET email = :email, display_name = :display_name
WHERE id = :id AND (email, display_name) IS DISTINCT FROM (:email, :display_name)
    AND NOT EXISTS (SELECT 1 FROM lms.learners o WHERE o.organisation_id = :organisation_id AND o.id <> :id
        AND (lower(o.email) = lower(:email) OR o.email IS NULL AND o.external_id = :email))
""")
_TAKEN = text("""
SELECT EXISTS (SELECT 1 FROM lms.learners o WHERE o.organisation_id = :organisation_id AND o.id <> :id
    AND (lower(o.email) = lower(:email) OR o.email IS NULL AND o.external_id = :email))
""")


def update(
    connection: Connection, organisation_id: int, learner_id: int, *, email: str | None, display_name: str | None
) -> bool:
    """Write a locked learner's address and name; False when another learner has the address."""
    values = {"organisation_id": organisation_id, "id": learner_id, "email": email, "display_name": display_name}
    connection.execute(_UPDATE, values)
    return not connection.scalar(_TAKEN, values)


_REMEMBER = text("""
INSERT INTO withdrawals.scim_users AS s (learner_id, organisation_id, last_call, created_at, deleted_at)
VALUES (:id, :organisation_id, :call, CASE WHEN :made THEN now() END, CASE WHEN :deleted THEN now() END)
ON CONFLICT (learner_id) DO UPDATE SET changed_at = now(), last_call = excluded.last_call,
    created_at = coalesce(excluded.created_at, s.created_at), deleted_at = excluded.deleted_at
""")


def remember(
    connection: Connection,
    organisation_id: int,
    learner_id: int,
    call: UUID,
    *,
    made: bool = False,
    deleted: bool = False,
) -> None:
    """Record that a call of SCIM's has changed, made or deleted a user."""
    values = {"organisation_id": organisation_id, "id": learner_id, "call": call, "made": made, "deleted": deleted}
    connection.execute(_REMEMBER, values)


_KNOWN_PERSON = text("""
SELECT EXISTS (SELECT 1 FROM withdrawals.persons
    WHERE organisation_id = :organisation_id AND external_id = :external_id)
""")


def has_events(connection: Connection, organisation_id: int, external_id: str) -> bool:
    """Whether an HR system has sent events of a person already."""
    parameters = {"organisation_id": organisation_id, "external_id": external_id}
    return bool(connection.scalar(_KNOWN_PERSON, parameters))
