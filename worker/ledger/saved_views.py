"""Saved views: rows that everybody who may see them reads, and their owner alone changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from worker.errors import ConflictError
from worker.models import saved_views
from worker.texts import text

_V = saved_views.c


@dataclass(frozen=True, slots=True)
class ViewRecord:
    """A saved view. `owner_key`: by what its owner is known again."""

    id: int
    list_name: str
    name: str
    filter: dict[str, Any]
    shared: bool
    owner: str
    owner_key: str
    created_at: datetime
    changed_at: datetime


_COLUMNS = (
    _V.id, _V.list_name, _V.name, _V.filter, _V.shared, _V.owner, _V.owner_key, _V.created_at, _V.changed_at,
)  # fmt: skip


def insert_view(connection: Connection, organisation_id: int, owner_key: str, **values: Any) -> ViewRecord | None:
    """A new view; None: the owner has one of this list with this name."""
    new = (
        insert(saved_views)
        .values(organisation_id=organisation_id, owner_key=owner_key, **values)
        .on_conflict_do_nothing()
        .returning(*_COLUMNS)
    )
    return _one(connection.execute(new))


def find(connection: Connection, organisation_id: int, owner_key: str, view_id: int) -> ViewRecord | None:
    """A view that the owner may see: their own, or a shared one."""
    return _one(connection.execute(_visible(organisation_id, owner_key).where(_V.id == view_id)))


def find_by_name(
    connection: Connection, organisation_id: int, owner_key: str, *, list_name: str, name: str
) -> ViewRecord | None:
    """The owner's view of a list with this name, in capitals or not."""
    named = _V.owner_key == owner_key, _V.list_name == list_name, func.lower(_V.name) == func.lower(name)
    return _one(connection.execute(_visible(organisation_id, owner_key).where(*named)))


def list_views(
    connection: Connection, organisation_id: int, owner_key: str, *, list_name: str | None, limit: int
) -> Sequence[ViewRecord]:
    """Views that the owner may see, by list and name. `list_name`: only of this list."""
    statement = _visible(organisation_id, owner_key).order_by(_V.list_name, func.lower(_V.name), _V.id).limit(limit)
    if list_name is not None:
        statement = statement.where(_V.list_name == list_name)
    return [ViewRecord(**row) for row in connection.execute(statement).mappings()]


def count_own(connection: Connection, organisation_id: int, owner_key: str) -> int:
    """How many views the owner has."""
    own = select(func.count()).where(_V.organisation_id == organisation_id, _V.owner_key == owner_key)
    return connection.execute(own).scalar_one()


def change(
    connection: Connection, organisation_id: int, owner_key: str, view_id: int, **values: Any
) -> ViewRecord | None:
    """Change a view of the owner's; None: it is not theirs.

    Raises:
        ConflictError: they have another of this list with this name.
    """
    statement = (
        update(saved_views)
        .where(_V.id == view_id, _V.organisation_id == organisation_id, _V.owner_key == owner_key)
        .values(**values, changed_at=func.now())
        .returning(*_COLUMNS)
    )
    try:
        return _one(connection.execute(statement))
    except IntegrityError:
        raise ConflictError(text("name: you have another view of this list with this name")) from None


def delete_view(
    connection: Connection, organisation_id: int, owner_key: str, view_id: int, *, any_shared: bool
) -> ViewRecord | None:
    """Delete a view of the owner's; `any_shared`: or a shared one of anybody. None: there is no such view."""
    may = or_(_V.owner_key == owner_key, _V.shared) if any_shared else _V.owner_key == owner_key
    statement = delete(saved_views).where(_V.id == view_id, _V.organisation_id == organisation_id, may)
    return _one(connection.execute(statement.returning(*_COLUMNS)))


def _visible(organisation_id: int, owner_key: str) -> Select[Any]:
    return select(*_COLUMNS).where(_V.organisation_id == organisation_id, or_(_V.owner_key == owner_key, _V.shared))


def _one(rows: Any) -> ViewRecord | None:
    row = rows.mappings().one_or_none()
    return ViewRecord(**row) if row else None
