"""Persons and their events: which event is the newest, and the locks that keep it so."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from worker.models import learners, person_events, persons
from worker.records import Person


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """The newest event of one source about a person."""

    source: str
    type: str
    sequence: int | None
    occurred_at: datetime
    effective_at: datetime


def lock(connection: Connection, organisation_id: int, external_id: str) -> Person:
    """Lock a person's row. The first event about a person inserts it."""
    row = insert(persons).values(organisation_id=organisation_id, external_id=external_id)
    connection.execute(row.on_conflict_do_nothing())
    found = connection.execute(
        select(persons.c.epoch, persons.c.active, persons.c.effective_at)
        .where(_is_person(organisation_id, external_id))
        .with_for_update()
    ).one()
    return Person(found.epoch, found.active, found.effective_at)


# Text, because the order of the locks counts: persons by organisation and external id, as everywhere.
_LOCK_OF_CHUNKS = text("""
SELECT p.organisation_id, p.external_id, p.epoch FROM withdrawals.persons p
WHERE (p.organisation_id, p.external_id) IN (
    -- only deactivations have an epoch; job chunks and letter chunks alike
    SELECT j.organisation_id, j.learner_external_id FROM withdrawals.chunks c
    JOIN withdrawals.jobs j ON j.id = c.job_id WHERE c.id = ANY(:chunks) AND j.epoch IS NOT NULL)
ORDER BY p.organisation_id, p.external_id FOR UPDATE
""")


def lock_of_chunks(connection: Connection, chunk_ids: Sequence[int]) -> dict[tuple[int, str], int]:
    """Lock the persons whose deactivations these chunks carry out; their current epochs."""
    rows = connection.execute(_LOCK_OF_CHUNKS, {"chunks": list(chunk_ids)})
    return {(row.organisation_id, row.external_id): row.epoch for row in rows}


# A statement of its own, after the locks: beside them it would read persons from its older snapshot.
_EPOCHS_OF_CHUNKS = text("""
SELECT c.id, j.organisation_id, j.learner_external_id, j.epoch FROM withdrawals.chunks c
JOIN withdrawals.jobs j ON j.id = c.job_id WHERE c.id = ANY(:chunks) AND j.epoch IS NOT NULL
""")


def superseded(connection: Connection, chunk_ids: Sequence[int]) -> set[int]:
    """Lock the persons behind deactivations; returns the chunks whose person has had a newer event since."""
    epochs = lock_of_chunks(connection, chunk_ids)
    if not epochs:
        return set()
    rows = connection.execute(_EPOCHS_OF_CHUNKS, {"chunks": list(chunk_ids)})
    return {row.id for row in rows if epochs.get((row.organisation_id, row.learner_external_id)) != row.epoch}


def record_event(connection: Connection, organisation_id: int, external_id: str, event: StoredEvent) -> bool:
    """Store an event if it is the newest of its source; the person's row must be locked."""
    values = {
        "type": event.type,
        "sequence": event.sequence,
        "occurred_at": event.occurred_at,
        "effective_at": event.effective_at,
    }
    row = insert(person_events).values(
        organisation_id=organisation_id, external_id=external_id, source=event.source, **values
    )
    stored = row.on_conflict_do_update(
        index_elements=["organisation_id", "external_id", "source"],
        set_=values,
        where=_rank(row.excluded) > _rank(person_events.c),
    )
    return connection.execute(stored.returning(person_events.c.source)).one_or_none() is not None


def _rank(event: Any) -> ColumnElement[Any]:
    """Where an event stands among those of its source: the sequence decides, else the time; a reactivation wins."""
    return tuple_(
        event.sequence.is_not(None),
        func.coalesce(event.sequence, 0),
        event.occurred_at,
        event.type != "user.deactivated",
    )


def find_newest_event(connection: Connection, organisation_id: int, external_id: str) -> StoredEvent | None:
    """The event that decides the person's state: the newest of all sources, a reactivation winning a tie."""
    events = person_events.c
    row = connection.execute(
        select(events.source, events.type, events.sequence, events.occurred_at, events.effective_at)
        .where(events.organisation_id == organisation_id, events.external_id == external_id)
        .order_by(events.occurred_at.desc(), (events.type != "user.deactivated").desc(), events.source)
        .limit(1)
    ).one_or_none()
    return StoredEvent(*row) if row else None


def set_person_state(
    connection: Connection, organisation_id: int, external_id: str, *, active: bool, effective_at: datetime
) -> int:
    """Set a locked person's state after a new newest event; returns the new epoch.

    `effective_at`: when a deactivation takes effect; a person who is active has none.
    """
    changed = (
        update(persons)
        .where(_is_person(organisation_id, external_id))
        .values(
            epoch=persons.c.epoch + 1,
            active=active,
            effective_at=None if active else effective_at,
            deactivation_due=not active,
        )
        .returning(persons.c.epoch)
    )
    return connection.execute(changed).scalar_one()


def sync_learner(connection: Connection, organisation_id: int, external_id: str, *, was_active: bool) -> bool:
    """Set the learner's `active` from the locked person; False while the platform has no such learner.

    A deactivation in the future leaves `active` as it is, unless the person was deactivated before (not
    `was_active`): then the newer event means that they are active until that time.
    """
    is_learner = and_(learners.c.organisation_id == organisation_id, learners.c.external_id == external_id)
    learner = connection.execute(select(learners.c.active).where(is_learner).with_for_update()).one_or_none()
    if learner is None:
        return False
    person = connection.execute(  # the clock, not the transaction's time: the event just accepted is younger than that
        select(persons.c.active, persons.c.effective_at, func.clock_timestamp().label("now")).where(
            _is_person(organisation_id, external_id)
        )
    ).one()
    in_effect = person.effective_at is not None and person.effective_at <= person.now
    active = person.active or (not in_effect and (learner.active or not was_active))
    if active is not learner.active:
        connection.execute(update(learners).where(is_learner).values(active=active))
    if in_effect:
        connection.execute(
            update(persons)
            .where(_is_person(organisation_id, external_id), persons.c.deactivation_due)
            .values(deactivation_due=False)
        )
    return True


_DUE = (
    select(persons.c.organisation_id, persons.c.external_id)
    .join(
        learners,
        and_(learners.c.organisation_id == persons.c.organisation_id, learners.c.external_id == persons.c.external_id),
    )
    .where(persons.c.deactivation_due, persons.c.effective_at <= func.now())
)


def list_due_deactivations(connection: Connection, *, limit: int = 500) -> list[tuple[int, str]]:
    """Persons whose deactivation is due while their learner is still active, the longest due first."""
    rows = connection.execute(_DUE.order_by(persons.c.effective_at).limit(limit))
    return [(row.organisation_id, row.external_id) for row in rows]


def lock_due_deactivation(connection: Connection, organisation_id: int, external_id: str) -> bool:
    """Lock a person whose deactivation is still due; False when it is not, or another transaction has the lock."""
    this = _DUE.where(_is_person(organisation_id, external_id)).with_for_update(of=persons, skip_locked=True)
    return connection.execute(this).one_or_none() is not None


def _is_person(organisation_id: int, external_id: str) -> ColumnElement[bool]:
    return and_(persons.c.organisation_id == organisation_id, persons.c.external_id == external_id)
