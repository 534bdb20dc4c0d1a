"""Saved views: a filter of a list under a name, for oneself or for everybody of the organisation.

A view has the conditions as the list's form has them, and is read by the list's model each time: one that a later
release does not take says so, and is changed or deleted like any other.
"""

import json
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection

from schemas.saved_views import CONDITIONS, ListName, SavedView, ViewChange, ViewRequest
from worker.access.persons import Actor, member_id
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError, NotFoundError
from worker.ledger import jobs, saved_views
from worker.ledger.saved_views import ViewRecord
from worker.texts import text
from worker.validation_words import say_fault

MOST = 100
"""Views that one person can have."""
LISTED = 500
"""Views that a list shows: one's own and the shared ones."""


def save(database: Database, *, organisation_id: int, wanted: ViewRequest, who: Actor) -> SavedView:
    """Keep a filter under a name. The same view saved twice is one.

    Raises:
        InvalidInputError: the list does not take the filter.
        ConflictError: the name is taken, or one has too many views.
    """
    conditions = parse(wanted.list, wanted.filter)
    key = _key(who)

    def find(connection: Connection) -> ViewRecord | None:
        return saved_views.find_by_name(connection, organisation_id, key, list_name=wanted.list, name=wanted.name)

    def work(connection: Connection) -> ViewRecord:
        known = find(connection)
        if known is None and saved_views.count_own(connection, organisation_id, key) >= MOST:
            raise ConflictError(text("you have {most} saved views already; delete one first", most=MOST))
        made = known or saved_views.insert_view(
            connection,
            organisation_id,
            key,
            owner=who.maker,
            list_name=wanted.list,
            name=wanted.name,
            filter=conditions,
            shared=wanted.shared,
        )
        if made is None:  # saved at the same time
            known = made = find(connection)
        if made is None or (made.filter, made.shared) != (conditions, wanted.shared):
            raise ConflictError(text("name: you have another view of this list with this name"))
        if known is None:
            _audit(connection, organisation_id, who, "view.save", made)
        return made

    return _shown(database.run(work), key)


def show(database: Database, *, organisation_id: int, view_id: int, who: Actor) -> SavedView:
    """One view of the caller's, or a shared one.

    Raises:
        NotFoundError: there is none that the caller may see.
    """
    key = _key(who)
    with database.begin() as connection:
        found = saved_views.find(connection, organisation_id, key, view_id)
    if found is None:
        raise _missing(view_id)
    return _shown(found, key)


def list_all(
    database: Database, *, organisation_id: int, who: Actor, list_name: ListName | None = None
) -> list[SavedView]:
    """The caller's views and those that are shared, by list and name. `list_name`: only of this list."""
    key = _key(who)
    with database.begin() as connection:
        found = saved_views.list_views(connection, organisation_id, key, list_name=list_name, limit=LISTED)
    return [_shown(one, key) for one in found]


def change(database: Database, *, organisation_id: int, view_id: int, wanted: ViewChange, who: Actor) -> SavedView:
    """Give a view of one's own another name, filter or sharing.

    Raises:
        NotFoundError: there is none that the caller may see.
        ConflictError: it is somebody else's, or the name is taken.
        InvalidInputError: nothing is to change, or the list does not take the filter.
    """
    values: dict[str, Any] = wanted.model_dump(exclude_none=True)
    if not values:
        raise InvalidInputError(text("give another name, filter or sharing"))
    key = _key(who)

    def work(connection: Connection) -> ViewRecord:
        found = _find_own(connection, organisation_id, view_id, key)
        if wanted.filter is not None:
            values["filter"] = parse(ListName(found.list_name), wanted.filter)
        changed = saved_views.change(connection, organisation_id, key, view_id, **values)
        if changed is None:  # deleted meanwhile
            raise _missing(view_id)
        _audit(connection, organisation_id, who, "view.change", changed)
        return changed

    return _shown(database.run(work), key)


def delete(
    database: Database, *, organisation_id: int, view_id: int, who: Actor, any_shared: bool = False
) -> SavedView:
    """Delete a view of one's own. `any_shared`: also somebody else's that is shared, for an owner.

    Raises:
        NotFoundError: there is none that the caller may see.
        ConflictError: it is somebody else's.
    """
    key = _key(who)

    def work(connection: Connection) -> ViewRecord:
        gone = saved_views.delete_view(connection, organisation_id, key, view_id, any_shared=any_shared)
        if gone is None:
            _find_own(connection, organisation_id, view_id, key)
            raise _missing(view_id)
        _audit(connection, organisation_id, who, "view.delete", gone)
        return gone

    return _shown(database.run(work), key)


def parse(list_name: ListName, given: dict[str, Any]) -> dict[str, Any]:
    """Conditions as the list takes them, in JSON types.

    Raises:
        InvalidInputError: names the condition and says what is wrong with it.
    """
    try:
        found = CONDITIONS[list_name].model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = ".".join(["filter", *(_printable(part) for part in fault["loc"][:1])])
        raise InvalidInputError(say_fault(name, fault)) from None
    conditions = found.model_dump(mode="json", exclude_none=True)
    if not conditions:
        raise InvalidInputError(text("filter: give at least one condition"))
    return conditions


def _printable(name: object) -> str:
    """The name of a condition, which may be any text that JSON can spell."""
    return "".join(one for one in str(name)[:40] if one.isprintable())


def _find_own(connection: Connection, organisation_id: int, view_id: int, key: str) -> ViewRecord:
    found = saved_views.find(connection, organisation_id, key, view_id)
    if found is None:
        raise _missing(view_id)
    if found.owner_key != key:
        raise ConflictError(
            text(
                "view {view_id} is one of {owner}, who alone changes it; an owner can delete it",
                view_id=view_id,
                owner=found.owner,
            )
        )
    return found


def _missing(view_id: int) -> NotFoundError:
    return NotFoundError(text("there is no view {view_id} in this organisation that you may see", view_id=view_id))


def _key(who: Actor) -> str:
    """A member is known by their id, also by a token that is theirs; anybody else by the name on record."""
    member = member_id(who.maker)
    return who.maker if member is None else f"#{member}"


def _shown(found: ViewRecord, key: str) -> SavedView:
    fault = None
    try:
        parse(ListName(found.list_name), found.filter)
    except InvalidInputError as error:
        fault = str(error)
    return SavedView(
        id=found.id,
        list=ListName(found.list_name),
        name=found.name,
        filter=found.filter,
        shared=found.shared,
        owner=found.owner,
        own=found.owner_key == key,
        fault=fault,
        page=f"/console/views/{found.id}",
        created_at=found.created_at,
        changed_at=found.changed_at,
    )


def _audit(connection: Connection, organisation_id: int, who: Actor, action: str, view: ViewRecord) -> None:
    """Without its name and filter, which may name a person."""
    detail = {"view": view.id, "list": view.list_name, "shared": view.shared}
    jobs.audit(
        connection, organisation_id=organisation_id, actor=who.name, action=action, detail=json.dumps(detail)
    )  # fmt: skip
