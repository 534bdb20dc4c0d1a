"""Users of SCIM: learners of an organisation, with what SCIM remembers of them, and the few columns it may write."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from worker.models import learners, person_events, persons, scim_users

SOURCE = "scim"
"""The source of the events that SCIM's changes of `active` stand for."""


@dataclass(frozen=True, slots=True)
class ScimUser:
    """A learner, with what SCIM remembers: when it created, changed or deleted the user, and its last call."""

    id: int
    external_id: str
    email: str | None
    display_name: str | None
    active: bool
    created_at: datetime | None
    changed_at: datetime | None
    deleted_at: datetime | None
    last_call: UUID | None


_ROWS = learners.outerjoin(scim_users, scim_users.c.learner_id == learners.c.id)
_USERS = select(
    learners.c.id,
    learners.c.external_id,
    learners.c.email,
    learners.c.display_name,
    learners.c.active,
    scim_users.c.created_at,
    scim_users.c.changed_at,
    scim_users.c.deleted_at,
    scim_users.c.last_call,
).select_from(_ROWS)


def find(connection: Connection, organisation_id: int, learner_id: int, *, lock: bool = False) -> ScimUser | None:
    """One user, also a deleted one; None when the organisation has no such learner.

    `lock`: lock the learner's row until the transaction ends. The caller holds the organisation's settings, so this
    does not wait for the platform: it raises the driver's `LockNotAvailable`.
    """
    statement = _USERS.where(*_is_learner(organisation_id, learner_id))
    if lock:
        statement = statement.with_for_update(of=learners, nowait=True)
    row = connection.execute(statement).mappings().one_or_none()
    return ScimUser(**row) if row else None


def find_alike(connection: Connection, organisation_id: int, *, external_id: str, user_name: str) -> list[ScimUser]:
    """Users with this external id or this name, also deleted ones; the one with the external id comes first."""
    same_id = learners.c.external_id == external_id
    statement = _USERS.where(
        learners.c.organisation_id == organisation_id, or_(same_id, _is_named(user_name))
    ).order_by(same_id.desc(), learners.c.id)
    return [ScimUser(**row) for row in connection.execute(statement).mappings()]


def search(
    connection: Connection, organisation_id: int, condition: ColumnElement[bool], *, offset: int, limit: int
) -> tuple[int, list[ScimUser]]:
    """How many users match, without the deleted ones, and one page of them by id.

    `condition`: over the columns of `lms.learners`.
    """
    conditions = (learners.c.organisation_id == organisation_id, scim_users.c.deleted_at.is_(None), condition)
    total = connection.scalar(select(func.count()).select_from(_ROWS).where(*conditions)) or 0
    if limit == 0 or offset >= total:
        return total, []
    page = _USERS.where(*conditions).order_by(learners.c.id).offset(offset).limit(limit)
    return total, [ScimUser(**row) for row in connection.execute(page).mappings()]


# Briefly, because whoever holds the settings of an organisation keeps its other producers waiting.
_BE_BRIEF = text("SELECT set_config('lock_timeout', '50ms', true)")


def create(connection: Connection, **values: Any) -> int | None:
    """Insert a learner and return its id; None when another learner has the external id or the address.

    It hardly waits for a transaction of the platform that inserts the same: it raises the driver's `LockNotAvailable`.

    `values`: organisation_id, external_id, email, display_name and active.
    """
    connection.execute(_BE_BRIEF)
    return connection.scalar(insert(learners).values(values).on_conflict_do_nothing().returning(learners.c.id))


def rename(
    connection: Connection, organisation_id: int, learner_id: int, *, email: str | None, display_name: str | None
) -> bool:
    """Write a locked learner's address and name; False, and no change, when another learner has the address."""
    if email is not None:
        other = exists().where(
            learners.c.organisation_id == organisation_id, learners.c.id != learner_id, _is_named(email)
        )
        if connection.scalar(select(other)):
            return False
    connection.execute(_BE_BRIEF)
    changed = or_(learners.c.email.is_distinct_from(email), learners.c.display_name.is_distinct_from(display_name))
    connection.execute(
        update(learners)
        .where(*_is_learner(organisation_id, learner_id), changed)
        .values(email=email, display_name=display_name)
    )
    return True


def record_call(
    connection: Connection,
    organisation_id: int,
    learner_id: int,
    call: UUID,
    *,
    created: bool = False,
    deleted: bool = False,
) -> None:
    """Record that a call of SCIM created, changed or deleted a user; a user that is not deleted is live again."""
    new = insert(scim_users).values(
        learner_id=learner_id,
        organisation_id=organisation_id,
        external_id=select(learners.c.external_id).where(*_is_learner(organisation_id, learner_id)).scalar_subquery(),
        last_call=call,
        created_at=func.now() if created else None,
        deleted_at=func.now() if deleted else None,
    )
    connection.execute(
        new.on_conflict_do_update(
            index_elements=[scim_users.c.learner_id],
            set_={
                "changed_at": func.now(),
                "last_call": new.excluded.last_call,
                "created_at": func.coalesce(new.excluded.created_at, scim_users.c.created_at),
                "deleted_at": new.excluded.deleted_at,
                "external_id": new.excluded.external_id,
            },
            where=scim_users.c.organisation_id == organisation_id,
        )
    )


def has_events(connection: Connection, organisation_id: int, external_id: str) -> bool:
    """Whether an HR system has already sent events about a person."""
    known = exists().where(persons.c.organisation_id == organisation_id, persons.c.external_id == external_id)
    return bool(connection.scalar(select(known)))


def was_known(connection: Connection, organisation_id: int, external_id: str) -> bool:
    """Whether SCIM has created, changed or deleted this person before, whatever became of the learner's row."""
    remembered = exists().where(
        scim_users.c.organisation_id == organisation_id, scim_users.c.external_id == external_id
    )
    said = exists().where(
        person_events.c.organisation_id == organisation_id,
        person_events.c.external_id == external_id,
        person_events.c.source == SOURCE,
    )
    return bool(connection.scalar(select(or_(remembered, said))))


def _is_learner(organisation_id: int, learner_id: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return learners.c.organisation_id == organisation_id, learners.c.id == learner_id


def _is_named(user_name: str) -> ColumnElement[bool]:
    """Whether a learner goes by this name: its address, or its external id when it has no address (record 0010)."""
    return or_(
        func.lower(learners.c.email) == func.lower(user_name),
        and_(learners.c.email.is_(None), learners.c.external_id == user_name),
    )
