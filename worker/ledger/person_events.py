"""Persons and their events: which event is the newest, and the locks that keep it so.

The statements are built once: every event runs them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Text, and_, bindparam, func, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from worker.ledger.fragments import DEACTIVATED, plan_by_index
from worker.models import Instant, learners, person_events, persons
from worker.records import Person


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """The newest event of one source about a person."""

    source: str
    type: str
    sequence: int | None
    occurred_at: datetime
    effective_at: datetime


_ORGANISATION, _PERSON = bindparam("organisation", type_=BigInteger), bindparam("person", type_=Text)
_IS_PERSON = and_(persons.c.organisation_id == _ORGANISATION, persons.c.external_id == _PERSON)
_IS_LEARNER = and_(learners.c.organisation_id == _ORGANISATION, learners.c.external_id == _PERSON)


def _key(organisation_id: int, external_id: str) -> dict[str, Any]:
    return {"organisation": organisation_id, "person": external_id}


_INSERT_IF_MISSING = insert(persons).on_conflict_do_nothing()
_LOCK = select(persons.c.epoch, persons.c.active, persons.c.effective_at).where(_IS_PERSON).with_for_update(nowait=True)


def lock(connection: Connection, organisation_id: int, external_id: str) -> Person:
    """Lock a person's row. The first event about a person inserts it.

    The caller holds the organisation's settings, which all its producers need. So this does not wait for a worker that
    decides the person: it raises the driver's `LockNotAvailable`, and the caller waits outside (`wait_until_free`).
    """
    connection.execute(_INSERT_IF_MISSING, {"organisation_id": organisation_id, "external_id": external_id})
    found = connection.execute(_LOCK, _key(organisation_id, external_id)).one()
    return Person(found.epoch, found.active, found.effective_at)


# Text, because the order of the locks counts: persons by organisation and external id, as everywhere.
_LOCK_OF_CHUNKS = text(f"""
SELECT p.organisation_id, p.external_id, p.epoch FROM withdrawals.persons p
WHERE (p.organisation_id, p.external_id) IN (
    -- only deactivations and their cascades have an epoch; job chunks and letter chunks alike
    SELECT j.organisation_id, {DEACTIVATED} FROM withdrawals.chunks c
    JOIN withdrawals.jobs j ON j.id = c.job_id WHERE c.id = ANY(:chunks) AND j.epoch IS NOT NULL)
ORDER BY p.organisation_id, p.external_id FOR UPDATE
""")


def lock_of_chunks(connection: Connection, chunk_ids: Sequence[int]) -> dict[tuple[int, str], int]:
    """Lock the persons whose deactivations these chunks carry out; their current epochs."""
    rows = connection.execute(_LOCK_OF_CHUNKS, {"chunks": list(chunk_ids)})
    return {(row.organisation_id, row.external_id): row.epoch for row in rows}


# A statement of its own, after the locks: beside them it would read persons from its older snapshot.
_EPOCHS_OF_CHUNKS = text(f"""
SELECT c.id, j.organisation_id, {DEACTIVATED} AS external_id, j.epoch FROM withdrawals.chunks c
JOIN withdrawals.jobs j ON j.id = c.job_id WHERE c.id = ANY(:chunks) AND j.epoch IS NOT NULL
""")


def superseded(connection: Connection, chunk_ids: Sequence[int]) -> set[int]:
    """Lock the persons behind deactivations; returns the chunks whose person has had a newer event since."""
    epochs = lock_of_chunks(connection, chunk_ids)
    if not epochs:
        return set()
    rows = connection.execute(_EPOCHS_OF_CHUNKS, {"chunks": list(chunk_ids)})
    return {row.id for row in rows if epochs.get((row.organisation_id, row.external_id)) != row.epoch}


def _rank(event: Any) -> ColumnElement[Any]:
    """Where an event stands among those of its source: the sequence decides, else the time; a reactivation wins."""
    return tuple_(
        event.sequence.is_not(None),
        func.coalesce(event.sequence, 0),
        event.occurred_at,
        event.type != "user.deactivated",
    )


_EVENT = insert(person_events)
_RECORD = _EVENT.on_conflict_do_update(
    index_elements=["organisation_id", "external_id", "source"],
    set_={name: _EVENT.excluded[name] for name in ("type", "sequence", "occurred_at", "effective_at")},
    where=_rank(_EVENT.excluded) > _rank(person_events.c),
).returning(person_events.c.source)


def record_event(connection: Connection, organisation_id: int, external_id: str, event: StoredEvent) -> bool:
    """Store an event if it is the newest of its source; the person's row must be locked."""
    values = {
        "organisation_id": organisation_id,
        "external_id": external_id,
        "source": event.source,
        "type": event.type,
        "sequence": event.sequence,
        "occurred_at": event.occurred_at,
        "effective_at": event.effective_at,
    }
    return connection.execute(_RECORD, values).one_or_none() is not None


_NEWEST = (
    select(
        person_events.c.source,
        person_events.c.type,
        person_events.c.sequence,
        person_events.c.occurred_at,
        person_events.c.effective_at,
    )
    .where(person_events.c.organisation_id == _ORGANISATION, person_events.c.external_id == _PERSON)
    .order_by(
        person_events.c.occurred_at.desc(),
        (person_events.c.type != "user.deactivated").desc(),
        person_events.c.source,
    )
    .limit(1)
)


def find_newest_event(connection: Connection, organisation_id: int, external_id: str) -> StoredEvent | None:
    """The event that decides the person's state: the newest of all sources, a reactivation winning a tie."""
    row = connection.execute(_NEWEST, _key(organisation_id, external_id)).one_or_none()
    return StoredEvent(*row) if row else None


_SET_STATE = (
    update(persons)
    .where(_IS_PERSON)
    .values(
        epoch=persons.c.epoch + 1,
        active=bindparam("is_active"),
        effective_at=bindparam("inactive_from"),
        deactivation_due=bindparam("is_due"),
    )
    .returning(persons.c.epoch)
)


def set_person_state(
    connection: Connection, organisation_id: int, external_id: str, *, active: bool, effective_at: datetime
) -> int:
    """Set a locked person's state after a new newest event; returns the new epoch.

    `effective_at`: when a deactivation takes effect; a person who is active has none.
    """
    state = {"is_active": active, "inactive_from": None if active else effective_at, "is_due": not active}
    return connection.execute(_SET_STATE, {**_key(organisation_id, external_id), **state}).scalar_one()


_WAIT_FOR_PERSON = select(persons.c.epoch).where(_IS_PERSON).with_for_update()
_WAIT_FOR_LEARNER = select(learners.c.id).where(_IS_LEARNER).with_for_update()


def wait_until_free(connection: Connection, organisation_id: int, external_id: str) -> None:
    """Wait until nobody else has locked person and learner, in a transaction that holds nothing that others need."""
    connection.execute(_WAIT_FOR_PERSON, _key(organisation_id, external_id))
    connection.execute(_WAIT_FOR_LEARNER, _key(organisation_id, external_id))


_LOCK_LEARNER = select(learners.c.active).where(_IS_LEARNER).with_for_update(nowait=True)
# The clock, not the transaction's time: the event just accepted is younger than that.
_STATE_NOW = select(persons.c.active, persons.c.effective_at, func.clock_timestamp().label("now")).where(_IS_PERSON)
_SET_LEARNER = update(learners).where(_IS_LEARNER).values(active=bindparam("is_active"))
_SETTLE = update(persons).where(_IS_PERSON, persons.c.deactivation_due).values(deactivation_due=False)


def sync_learner(connection: Connection, organisation_id: int, external_id: str, *, was_active: bool) -> bool:
    """Set the learner's `active` from the locked person; False while the platform has no such learner.

    Like `lock` it does not wait for a learner whom the platform has locked.

    A deactivation in the future leaves `active` as it is, unless another one was in effect before (not `was_active`):
    then the newer event means that they are active until that time.
    """
    key = _key(organisation_id, external_id)
    learner = connection.execute(_LOCK_LEARNER, key).one_or_none()
    if learner is None:
        return False
    person = connection.execute(_STATE_NOW, key).one()
    in_effect = person.effective_at is not None and person.effective_at <= person.now
    active = person.active or (not in_effect and (learner.active or not was_active))
    if active is not learner.active:
        connection.execute(_SET_LEARNER, {**key, "is_active": active})
    if in_effect:
        connection.execute(_SETTLE, key)
    return True


Position = tuple[datetime, int, str]
"""When a deactivation takes effect, organisation and external id: the order in which due ones are read."""


@dataclass(frozen=True, slots=True)
class DuePerson:
    """A person whose deactivation is due while their learner may still be active."""

    position: Position
    known: bool
    """Whether the platform has such a learner by now."""


# The learner is looked up for each person as a value: a join could begin with all learners.
_KNOWN = select(learners.c.id).where(
    learners.c.organisation_id == persons.c.organisation_id, learners.c.external_id == persons.c.external_id
)
_KEY = (persons.c.effective_at, persons.c.organisation_id, persons.c.external_id)
_AFTER = [
    bindparam("time", type_=Instant),
    bindparam("organisation", type_=BigInteger),
    bindparam("person", type_=Text),
]
_DUE = (persons.c.deactivation_due, persons.c.effective_at <= func.now())
_LIST_DUE = (
    select(*_KEY, _KNOWN.scalar_subquery().is_not(None).label("known"))
    .where(*_DUE)
    .order_by(*_KEY)
    .limit(bindparam("limit", type_=BigInteger))
)
_LIST_DUE_AFTER = _LIST_DUE.where(tuple_(*_KEY) > tuple_(*_AFTER))
_LOCK_DUE = (
    select(persons.c.external_id)
    .join(
        learners,
        and_(learners.c.organisation_id == persons.c.organisation_id, learners.c.external_id == persons.c.external_id),
    )
    .where(*_DUE, _IS_PERSON)
    .with_for_update(of=[persons, learners], skip_locked=True)
)


def list_due_deactivations(connection: Connection, *, after: Position | None, limit: int) -> list[DuePerson]:
    """Persons whose deactivation is due, the longest due first, from the one after `after`."""
    plan_by_index(connection)
    if after is None:
        rows = connection.execute(_LIST_DUE, {"limit": limit})
    else:
        values = {"time": after[0], "organisation": after[1], "person": after[2], "limit": limit}
        rows = connection.execute(_LIST_DUE_AFTER, values)
    return [DuePerson((row.effective_at, row.organisation_id, row.external_id), row.known) for row in rows]


def lock_due_deactivation(connection: Connection, organisation_id: int, external_id: str) -> bool:
    """Lock a person whose deactivation is still due, and the learner; False when it is not, or one is locked."""
    return connection.execute(_LOCK_DUE, _key(organisation_id, external_id)).one_or_none() is not None
