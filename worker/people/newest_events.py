"""What an event changes of its person, whoever says it: a source of events, or a full roster.

The newest event decides (DESIGN.md §2, Persons). An event that becomes the newest voids what an older one had asked for
and is not yet applied. The rules themselves are in `worker/rules.py`.

Lock order: the organisation's settings (by the caller), persons, learners. Everything is decided from rows that these
locks protect.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from schemas.catalogue import JobState, ReceiptStatus
from worker.ledger import closing, deactivations, jobs, person_events
from worker.ledger.person_events import LockedLearners
from worker.records import ArrivedEvent, DeactivationPolicy, Person, StoredEvent
from worker.rules import (
    ROSTER,
    answers_repetition,
    find_newest,
    is_in_effect,
    is_same_fact,
    learner_is_active,
    rank_in_source,
)


@dataclass(frozen=True, slots=True)
class EventResult:
    """What became of an event; `job_id` where a job carries it out."""

    status: ReceiptStatus
    job_id: int | None = None


@dataclass(frozen=True, slots=True)
class LockedPeople:
    """The persons of a set, locked together with their learners."""

    persons: Mapping[str, Person]
    learners: LockedLearners


@dataclass(slots=True)
class NewestEvent:
    """An event that changed which one is the newest of its person."""

    arrived: ArrivedEvent
    person: Person
    before: StoredEvent | None
    newest: StoredEvent
    was_active: bool
    """Whether no deactivation was in effect before: until its time one has changed nothing."""
    result: EventResult | None = None
    new_epoch: bool = True
    """Whether it replaces what older events had asked for."""

    @property
    def external_id(self) -> str:
        return self.arrived.external_id

    @property
    def epoch(self) -> int:
        """The person's, after the event."""
        return self.person.epoch + self.new_epoch

    @property
    def inactive_from(self) -> datetime | None:
        """When the person's deactivation takes effect, after the event."""
        if not self.new_epoch:
            return self.person.effective_at
        if not self.newest.deactivates:
            return None
        is_at_once = self.newest == self.arrived.event and self.newest.effective_at == self.newest.occurred_at
        return self.arrived.received_at if is_at_once else self.newest.effective_at


def lock_people(
    connection: Connection, organisation_id: int, external_ids: Sequence[str], *, skip_taken: bool
) -> LockedPeople:
    """Lock persons and their learners; `skip_taken`: leave out those of whom another transaction holds either."""
    persons = person_events.lock_all(connection, organisation_id, external_ids, skip_taken=skip_taken)
    learners = person_events.lock_learners(connection, organisation_id, list(persons), skip_taken=skip_taken)
    free = {external_id: person for external_id, person in persons.items() if external_id not in learners.taken}
    return LockedPeople(free, learners)


def record(
    connection: Connection, organisation_id: int, arrived: Sequence[ArrivedEvent], people: LockedPeople, now: datetime
) -> list[NewestEvent]:
    """Store the events that are the newest of their source; those that changed the newest of all."""
    stored = person_events.list_events(connection, organisation_id, [one.external_id for one in arrived])
    recorded: list[tuple[str, StoredEvent]] = []
    changes: list[NewestEvent] = []
    for one in arrived:
        by_source = stored[one.external_id]
        known = by_source.get(one.event.source)
        if known is not None and rank_in_source(one.event) <= rank_in_source(known):
            continue
        recorded.append((one.external_id, one.event))
        before = find_newest(by_source.values())
        newest = find_newest((by_source | {one.event.source: one.event}).values())
        if newest is not None and newest != before:
            person = people.persons[one.external_id]
            was_active = not is_in_effect(person.effective_at, now)
            changes.append(NewestEvent(one, person, before, newest, was_active))
    if recorded:
        person_events.record_events(connection, organisation_id, recorded)
    return changes


_STATUSES = {
    JobState.HELD: ReceiptStatus.HELD,
    JobState.SCHEDULED: ReceiptStatus.SCHEDULED,
    JobState.CANCELLED: ReceiptStatus.NOTED,
}
"""What a repeated deactivation is answered, by the state of the job that carries it out; else `accepted`."""


def answer_repetitions(
    connection: Connection,
    organisation_id: int,
    changes: Sequence[NewestEvent],
    policies: Mapping[str, DeactivationPolicy],
    now: datetime,
) -> None:
    """Let the job that carries a fact out answer those who say it again."""
    same = [change for change in changes if is_same_fact(change.before, change.newest, now)]
    if not same:
        return
    found = deactivations.find(
        connection, organisation_id, {change.external_id: change.person.epoch for change in same}
    )
    for change in same:
        same_source = change.before is not None and change.newest.source in (change.before.source, ROSTER)
        known = found.get(change.external_id)
        if known is not None and answers_repetition(known, policies[change.newest.source], same_source=same_source):
            change.result = EventResult(_STATUSES.get(known.state, ReceiptStatus.ACCEPTED), known.id)
            change.new_epoch = False
        elif same_source:
            change.new_epoch = False  # its job stands beside those before it


def change_people(
    connection: Connection, organisation_id: int, changes: Sequence[NewestEvent], people: LockedPeople, now: datetime
) -> None:
    """Let new newest events replace what older ones had asked for, and set the learners' `active`.

    A learner whom the platform does not know yet stays due.
    """
    active, settled = _find_learners(changes, people, now)
    changed = [change for change in changes if change.new_epoch]
    if changed:
        states = {change.external_id: change.inactive_from for change in changed}
        person_events.set_states(connection, organisation_id, states, settled)
    epochs = {change.external_id: change.epoch for change in changed if change.person.epoch > 0}
    voided = closing.close_superseded_persons(connection, organisation_id, epochs) if epochs else []
    if voided:
        jobs.finish(connection, sorted(set(voided)))
    if active:
        person_events.set_learners_active(connection, organisation_id, active)
    standing = settled.difference(change.external_id for change in changed)
    if standing:
        person_events.settle(connection, organisation_id, sorted(standing))


def _find_learners(
    changes: Sequence[NewestEvent], people: LockedPeople, now: datetime
) -> tuple[dict[str, bool], set[str]]:
    """The learners whose `active` changes, by external id; and those whom a deactivation that is in effect reaches."""
    changed: dict[str, bool] = {}
    settled: set[str] = set()
    for change in changes:
        learner_active = people.learners.active.get(change.external_id)
        if learner_active is None:
            continue
        in_effect = is_in_effect(change.inactive_from, now)
        active = learner_is_active(
            person_active=change.inactive_from is None,
            in_effect=in_effect,
            learner_active=learner_active,
            was_active=change.was_active,
        )
        if active is not learner_active:
            changed[change.external_id] = active
        if in_effect:
            settled.add(change.external_id)
    return changed, settled
