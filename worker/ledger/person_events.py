"""Persons and their events: which event is the newest, and the locks that keep it so.

The statements are built once: every event runs them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    Text,
    and_,
    any_,
    bindparam,
    func,
    select,
    text,
    update,
)

from worker.ledger.fragments import DEACTIVATED, OF_ROSTERS
from worker.models import learners, person_events, persons
from worker.records import Person, StoredEvent
from worker.rules import is_in_effect, learner_is_active

_ORGANISATION, _PERSON = bindparam("organisation", type_=BigInteger), bindparam("person", type_=Text)
_IS_PERSON = and_(persons.c.organisation_id == _ORGANISATION, persons.c.external_id == _PERSON)
_IS_LEARNER = and_(learners.c.organisation_id == _ORGANISATION, learners.c.external_id == _PERSON)


def _key(organisation_id: int, external_id: str) -> dict[str, Any]:
    return {"organisation": organisation_id, "person": external_id}


_THESE = any_(bindparam("ids", type_=ARRAY(Text)))
_INSERT_MISSING = text("""
INSERT INTO withdrawals.persons (organisation_id, external_id)
SELECT :organisation, id FROM unnest(CAST(:ids AS text[])) id ORDER BY id
ON CONFLICT (organisation_id, external_id) DO NOTHING
""")


# Each is found by its key, as a value: over a table that was never analysed, all persons of the organisation were read.
_LOCK_PERSONS = """
WITH asked AS MATERIALIZED (SELECT id FROM unnest(CAST(:ids AS text[])) id ORDER BY id)
SELECT p.* FROM asked a CROSS JOIN LATERAL (
    SELECT p.external_id, p.epoch, p.active, p.effective_at FROM withdrawals.persons p
    WHERE p.organisation_id = :organisation AND p.external_id = a.id FOR UPDATE {how}) p
"""
_LOCK_OR_FAIL, _LOCK_FREE = text(_LOCK_PERSONS.format(how="NOWAIT")), text(_LOCK_PERSONS.format(how="SKIP LOCKED"))


def lock(connection: Connection, organisation_id: int, external_id: str) -> Person:
    """Lock a person's row, as `lock_all` does; one that is taken raises the driver's `LockNotAvailable`."""
    return lock_all(connection, organisation_id, [external_id], skip_taken=False)[external_id]


def lock_all(
    connection: Connection, organisation_id: int, external_ids: Sequence[str], *, skip_taken: bool
) -> dict[str, Person]:
    """Lock persons' rows, in order. The first event about a person inserts theirs.

    The caller holds the organisation's settings, which all its producers need. So this does not wait for a worker that
    decides a person. `skip_taken`: leave such persons out; else it raises the driver's `LockNotAvailable`, and the
    caller waits outside (`wait_until_free`).
    """
    values = {"organisation": organisation_id, "ids": list(external_ids)}
    connection.execute(_INSERT_MISSING, values)
    rows = connection.execute(_LOCK_FREE if skip_taken else _LOCK_OR_FAIL, values)
    return {row.external_id: Person(row.epoch, row.active, row.effective_at) for row in rows}


def lock_known(connection: Connection, organisation_id: int, external_id: str) -> None:
    """Wait for a person's row and lock it, if there is one."""
    connection.execute(_WAIT_FOR_PERSON, _key(organisation_id, external_id))


# The learners that are there are read beside the locks: one that is missing among the locked is taken.
_LOCK_LEARNERS = """
WITH free AS MATERIALIZED (
    SELECT l.external_id, l.active FROM lms.learners l
    WHERE l.organisation_id = :organisation AND l.external_id = ANY(:ids)
    ORDER BY l.external_id FOR UPDATE {how}
)
SELECT l.external_id, free.external_id IS NOT NULL AS is_free, free.active
FROM lms.learners l LEFT JOIN free ON free.external_id = l.external_id
WHERE l.organisation_id = :organisation AND l.external_id = ANY(:ids)
"""
_LOCK_LEARNERS_OR_FAIL = text(_LOCK_LEARNERS.format(how="NOWAIT"))
_LOCK_FREE_LEARNERS = text(_LOCK_LEARNERS.format(how="SKIP LOCKED"))


@dataclass(frozen=True, slots=True)
class LockedLearners:
    """The learners of persons: `active` of those that were locked, and those that somebody else holds."""

    active: dict[str, bool]
    taken: set[str]


def lock_learners(
    connection: Connection, organisation_id: int, external_ids: Sequence[str], *, skip_taken: bool
) -> LockedLearners:
    """Lock the learners of locked persons; those whom the platform does not know are in neither set.

    Like `lock_all` it does not wait for a learner whom the platform has locked.
    """
    statement = _LOCK_FREE_LEARNERS if skip_taken else _LOCK_LEARNERS_OR_FAIL
    rows = connection.execute(statement, {"organisation": organisation_id, "ids": list(external_ids)}).all()
    return LockedLearners(
        {row.external_id: row.active for row in rows if row.is_free},
        {row.external_id for row in rows if not row.is_free},
    )


# Text, because the order of the locks counts: persons by organisation and external id, as everywhere.
_LOCK_OF_CHUNKS = text(f"""
SELECT p.organisation_id, p.external_id, p.epoch FROM withdrawals.persons p
WHERE (p.organisation_id, p.external_id) IN (
    -- only deactivations and their cascades have an epoch; job chunks and letter chunks alike
    SELECT j.organisation_id, {DEACTIVATED} FROM withdrawals.chunks c
    JOIN withdrawals.jobs j ON j.id = c.job_id WHERE c.id = ANY(:chunks) AND j.epoch IS NOT NULL
    UNION ALL
    SELECT t.organisation_id, t.external_id FROM ({OF_ROSTERS}) t)
ORDER BY p.organisation_id, p.external_id FOR UPDATE
""")


def lock_of_chunks(
    connection: Connection, chunk_ids: Sequence[int], of_rosters: Sequence[int] = ()
) -> dict[tuple[int, str], int]:
    """Lock the persons whose deactivations these chunks carry out; their current epochs.

    `of_rosters`: chunks of rosters, each about many persons.
    """
    rows = connection.execute(_LOCK_OF_CHUNKS, {"chunks": list(chunk_ids), "of_rosters": list(of_rosters)})
    return {(row.organisation_id, row.external_id): row.epoch for row in rows}


# A statement of its own, after the locks: beside them it would read persons from its older snapshot. An HR system that
# did not answer once, when an event of its was looked up, does not keep the deactivations of other sources waiting.
_AWAITS = """EXISTS (
    SELECT 1 FROM withdrawals.receipts r WHERE r.waiting AND r.organisation_id = {organisation}
        AND r.external_id = {person} AND NOT (r.lookup AND r.attempts > 0) OFFSET 0) AS awaits"""
_EPOCHS_OF_CHUNKS = text(f"""
SELECT c.id, j.organisation_id, {DEACTIVATED} AS external_id, j.epoch, NULL::bigint AS enrolment_id,
    {_AWAITS.format(organisation="j.organisation_id", person=DEACTIVATED)}
FROM withdrawals.chunks c JOIN withdrawals.jobs j ON j.id = c.job_id
WHERE c.id = ANY(:chunks) AND j.epoch IS NOT NULL
UNION ALL
SELECT t.id, t.organisation_id, t.external_id, t.epoch, t.enrolment_id,
    {_AWAITS.format(organisation="t.organisation_id", person="t.external_id")}
FROM ({OF_ROSTERS}) t
""")


@dataclass(frozen=True, slots=True)
class NewerEvents:
    """Chunks of deactivations whose person has had another event since."""

    superseded: set[int]
    """A newer one has replaced the deactivation."""
    awaiting: set[int]
    """One waits in the inbox: whether it is newer is known once it is applied."""
    returned: set[tuple[int, int]] = field(default_factory=set)
    """Chunks of rosters, each with an enrolment whose person has had a newer event since."""


def find_newer(connection: Connection, chunk_ids: Sequence[int], of_rosters: Sequence[int] = ()) -> NewerEvents:
    """Lock the persons behind deactivations; returns the chunks whose person has had an event since.

    `of_rosters`: chunks of rosters, of which single enrolments are superseded.
    """
    epochs = lock_of_chunks(connection, chunk_ids, of_rosters)
    found = NewerEvents(set(), set())
    values = {"chunks": list(chunk_ids), "of_rosters": list(of_rosters)}
    for row in connection.execute(_EPOCHS_OF_CHUNKS, values) if epochs else ():
        is_newer = epochs.get((row.organisation_id, row.external_id)) != row.epoch
        if row.enrolment_id is not None and is_newer:
            found.returned.add((row.id, row.enrolment_id))
        elif is_newer:
            found.superseded.add(row.id)
        elif row.awaits:
            found.awaiting.add(row.id)
    return found


_LIST_EVENTS = select(
    person_events.c.external_id,
    person_events.c.source,
    person_events.c.type,
    person_events.c.sequence,
    person_events.c.occurred_at,
    person_events.c.effective_at,
).where(person_events.c.organisation_id == _ORGANISATION, person_events.c.external_id == _THESE)


def list_events(
    connection: Connection, organisation_id: int, external_ids: Sequence[str]
) -> dict[str, dict[str, StoredEvent]]:
    """The newest event of each source about locked persons: by external id, then by source."""
    found: dict[str, dict[str, StoredEvent]] = {external_id: {} for external_id in external_ids}
    for row in connection.execute(_LIST_EVENTS, {"organisation": organisation_id, "ids": list(external_ids)}):
        found[row.external_id][row.source] = StoredEvent(*row[1:])
    return found


_RECORD = text("""
INSERT INTO withdrawals.person_events (organisation_id, external_id, source, type, sequence, occurred_at, effective_at)
SELECT :organisation_id, g.* FROM unnest(CAST(:persons AS text[]), CAST(:sources AS text[]), CAST(:types AS text[]),
    CAST(:sequences AS bigint[]), CAST(:occurred AS timestamptz[]), CAST(:effective AS timestamptz[])) AS g
ON CONFLICT (organisation_id, external_id, source) DO UPDATE SET type = excluded.type, sequence = excluded.sequence,
    occurred_at = excluded.occurred_at, effective_at = excluded.effective_at
""")


def record_events(connection: Connection, organisation_id: int, events: Sequence[tuple[str, StoredEvent]]) -> None:
    """Store events of locked persons (external ids), each of which is the newest of its source."""
    values = {
        "organisation_id": organisation_id,
        "persons": [external_id for external_id, _ in events],
        "sources": [event.source for _, event in events],
        "types": [event.type for _, event in events],
        "sequences": [event.sequence for _, event in events],
        "occurred": [event.occurred_at for _, event in events],
        "effective": [event.effective_at for _, event in events],
    }
    connection.execute(_RECORD, values)


_SET_STATES = text("""
UPDATE withdrawals.persons p SET epoch = p.epoch + 1, active = g.effective_at IS NULL, effective_at = g.effective_at,
    deactivation_due = g.is_due
FROM unnest(CAST(:persons AS text[]), CAST(:effective AS timestamptz[]), CAST(:due AS boolean[]))
    AS g(external_id, effective_at, is_due)
WHERE p.organisation_id = :organisation_id AND p.external_id = ANY(:persons) AND p.external_id = g.external_id
""")


def set_states(
    connection: Connection, organisation_id: int, states: Mapping[str, datetime | None], settled: Collection[str]
) -> None:
    """Set locked persons' states after new newest events; each person's epoch grows by one.

    `states`: by external id, when the deactivation takes effect; None for a person who is active. `settled`: of whom
    the same transaction makes the learner inactive; of the others a deactivation is due.
    """
    values = {
        "organisation_id": organisation_id,
        "persons": list(states),
        "effective": list(states.values()),
        "due": [effective_at is not None and person not in settled for person, effective_at in states.items()],
    }
    connection.execute(_SET_STATES, values)


_WAIT_FOR_PERSON = select(persons.c.epoch).where(_IS_PERSON).with_for_update()
_WAIT_FOR_LEARNER = select(learners.c.id).where(_IS_LEARNER).with_for_update()


def wait_until_free(connection: Connection, organisation_id: int, external_id: str) -> None:
    """Wait until nobody else has locked person and learner, in a transaction that holds nothing that others need."""
    connection.execute(_WAIT_FOR_PERSON, _key(organisation_id, external_id))
    connection.execute(_WAIT_FOR_LEARNER, _key(organisation_id, external_id))


# The clock, not the transaction's time: the event just accepted is younger than that.
_STATE_NOW = select(persons.c.active, persons.c.effective_at, func.clock_timestamp().label("now")).where(_IS_PERSON)
_SET_LEARNERS = text("""
UPDATE lms.learners l SET active = g.active
FROM unnest(CAST(:persons AS text[]), CAST(:active AS boolean[])) AS g(external_id, active)
WHERE l.organisation_id = :organisation_id AND l.external_id = ANY(:persons) AND l.external_id = g.external_id
""")
_SETTLE = (
    update(persons)
    .where(persons.c.organisation_id == _ORGANISATION, persons.c.external_id == _THESE, persons.c.deactivation_due)
    .values(deactivation_due=False)
)


def set_learners_active(connection: Connection, organisation_id: int, active: Mapping[str, bool]) -> None:
    """Set `active` of locked learners, by external id."""
    values = {"organisation_id": organisation_id, "persons": list(active), "active": list(active.values())}
    connection.execute(_SET_LEARNERS, values)


def settle(connection: Connection, organisation_id: int, external_ids: Sequence[str]) -> None:
    """Note of locked persons that their deactivation has reached the learner."""
    connection.execute(_SETTLE, {"organisation": organisation_id, "ids": list(external_ids)})


def sync_learner(connection: Connection, organisation_id: int, external_id: str, *, was_active: bool) -> bool:
    """Set the learner's `active` from the locked person; False while the platform has no such learner.

    Like `lock` it does not wait for a learner whom the platform has locked. `was_active`: no deactivation was in effect
    before.
    """
    learner = lock_learners(connection, organisation_id, [external_id], skip_taken=False).active.get(external_id)
    if learner is None:
        return False
    person = connection.execute(_STATE_NOW, _key(organisation_id, external_id)).one()
    in_effect = is_in_effect(person.effective_at, person.now)
    active = learner_is_active(
        person_active=person.active, in_effect=in_effect, learner_active=learner, was_active=was_active
    )
    if active is not learner:
        set_learners_active(connection, organisation_id, {external_id: active})
    if in_effect:
        settle(connection, organisation_id, [external_id])
    return True
