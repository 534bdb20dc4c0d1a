"""Apply events about persons in a set: at most one event a person, a few statements for all of them.

The newest event decides (DESIGN.md §2, Persons). An event that becomes the newest voids what an older one had asked for
and is not yet applied; if it deactivates, it submits a job of its own. A source that says the same again changes
nothing: neither what is under way, nor what a second person has decided (decision record 0019). The rules themselves
are in `worker/rules.py`; an event that is applied at once is a set of one (decision record 0024).

Lock order: the organisation's settings (by the caller), persons, learners. Everything is decided from rows that these
locks protect.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from schemas.catalogue import JobState, ReceiptStatus
from worker.database import notify_after_commit
from worker.errors import IdempotencyConflictError, InvalidInputError
from worker.jobs.admission import admit_persons
from worker.ledger import brake, closing, deactivations, hr_sources, jobs, person_events
from worker.ledger.deactivations import NewDeactivation
from worker.ledger.person_events import LockedLearners
from worker.records import ArrivedEvent, DeactivationPolicy, Person, StoredEvent
from worker.rules import (
    ROSTER,
    STANDING,
    answers_repetition,
    find_newest,
    is_in_effect,
    is_same_fact,
    learner_is_active,
    rank_in_source,
)

REUSED = "this key was used before, for another request; use a new key for a new request"


@dataclass(frozen=True, slots=True)
class EventResult:
    """What became of an event; `job_id` where a job carries it out."""

    status: ReceiptStatus
    job_id: int | None = None


IGNORED = EventResult(ReceiptStatus.IGNORED)


@dataclass(frozen=True, slots=True)
class LockedPeople:
    """The persons of a set, locked together with their learners."""

    persons: Mapping[str, Person]
    learners: LockedLearners


@dataclass(slots=True)
class _Turn:
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


def apply_events(
    connection: Connection, organisation_id: int, arrived: Sequence[ArrivedEvent], people: LockedPeople, now: datetime
) -> dict[str, EventResult]:
    """Apply events of locked persons, at most one each, in the caller's transaction; the results by external id.

    `now`: the database's clock, read after the locks.

    Raises:
        InvalidInputError: a job would be due later than any time that can be stored.
        IdempotencyConflictError: a key has made a job of another request.
    """
    turns = _record(connection, organisation_id, arrived, people, now)
    jobs.audit_events(connection, organisation_id, arrived)
    asking = _answer_what_needs_no_job(connection, organisation_id, turns, now)
    _change_states(connection, organisation_id, turns)
    _sync_learners(connection, organisation_id, turns, people, now)
    made = _deactivate(connection, organisation_id, asking, now) if asking else {}
    known = {turn.external_id: turn.result for turn in turns if turn.result is not None}
    return {one.external_id: IGNORED for one in arrived} | known | made


@dataclass(frozen=True, slots=True)
class RosterResult:
    """What became of a roster's line about a person; `epoch` where the roster's job is to withdraw them."""

    result: str
    epoch: int | None = None


def apply_roster(
    connection: Connection, organisation_id: int, arrived: Sequence[ArrivedEvent], people: LockedPeople, now: datetime
) -> dict[str, RosterResult]:
    """Apply what a roster says about locked persons, in the caller's transaction; the results by external id.

    As `apply_events`, but nobody gets a job of their own: those who left are to be withdrawn by the roster's one job.
    Whoever left and has a job under way is left to that job: a roster finds what was lost, and overtakes nothing.
    """
    turns = _record(connection, organisation_id, arrived, people, now)
    leaving = [turn for turn in turns if turn.newest.deactivates]
    _answer_repetitions(connection, organisation_id, leaving, {ROSTER: DeactivationPolicy()}, now)
    jobs.audit_events(connection, organisation_id, [turn.arrived for turn in turns if turn.new_epoch])
    _change_states(connection, organisation_id, turns)
    _sync_learners(connection, organisation_id, turns, people, now)
    changed = {turn.external_id: turn for turn in turns}
    found: dict[str, RosterResult] = {}
    left: dict[str, int] = {}
    for one in arrived:
        turn, person = changed.get(one.external_id), people.persons[one.external_id]
        inactive_from = turn.inactive_from if turn else person.effective_at
        if not one.event.deactivates:
            found[one.external_id] = RosterResult("reactivated" if turn else _why_inactive(inactive_from, now))
        elif is_in_effect(inactive_from, now):
            left[one.external_id] = turn.epoch if turn else person.epoch
        else:
            found[one.external_id] = RosterResult("newer_event")
    known = deactivations.find(connection, organisation_id, left) if left else {}
    for external_id, epoch in left.items():
        job = known.get(external_id)
        is_under_way = job is not None and job.state in STANDING
        found[external_id] = RosterResult("under_way") if is_under_way else RosterResult("withdraw", epoch)
    return found


def _why_inactive(inactive_from: datetime | None, now: datetime) -> str:
    """Why a roster that has somebody as active changes nothing. "known": they are active already."""
    if inactive_from is None:
        return "known"
    return "newer_event" if inactive_from <= now else "announced"


def _record(
    connection: Connection, organisation_id: int, arrived: Sequence[ArrivedEvent], people: LockedPeople, now: datetime
) -> list[_Turn]:
    """Store the events that are the newest of their source; those that changed the newest of all."""
    stored = person_events.list_events(connection, organisation_id, [one.external_id for one in arrived])
    recorded: list[tuple[str, StoredEvent]] = []
    turns: list[_Turn] = []
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
            turns.append(_Turn(one, person, before, newest, was_active))
    if recorded:
        person_events.record_events(connection, organisation_id, recorded)
    return turns


def _answer_what_needs_no_job(
    connection: Connection, organisation_id: int, turns: Sequence[_Turn], now: datetime
) -> list[tuple[_Turn, DeactivationPolicy]]:
    """Answer returns, repetitions and what a policy lets pass; the deactivations that ask for a job of their own."""
    deactivating = [turn for turn in turns if turn.newest.deactivates]
    for turn in turns:
        if not turn.newest.deactivates:
            turn.result = EventResult(ReceiptStatus.REACTIVATED)
    if not deactivating:
        return []
    policies = hr_sources.find_policies(connection, organisation_id, [turn.newest.source for turn in deactivating])
    _answer_repetitions(connection, organisation_id, deactivating, policies, now)
    asking: list[tuple[_Turn, DeactivationPolicy]] = []
    for turn in deactivating:
        policy = policies[turn.newest.source]
        if turn.result is None and policy.on_deactivate == "ignore":
            turn.result = EventResult(ReceiptStatus.NOTED)
        if turn.result is None:
            asking.append((turn, policy))
    return asking


_STATUSES = {
    JobState.HELD: ReceiptStatus.HELD,
    JobState.SCHEDULED: ReceiptStatus.SCHEDULED,
    JobState.CANCELLED: ReceiptStatus.NOTED,
}
"""What a repeated deactivation is answered, by the state of the job that carries it out; else `accepted`."""


def _answer_repetitions(
    connection: Connection,
    organisation_id: int,
    turns: Sequence[_Turn],
    policies: Mapping[str, DeactivationPolicy],
    now: datetime,
) -> None:
    """Let the job that carries a fact out answer those who say it again."""
    same = [turn for turn in turns if is_same_fact(turn.before, turn.newest, now)]
    if not same:
        return
    found = deactivations.find(connection, organisation_id, {turn.external_id: turn.person.epoch for turn in same})
    for turn in same:
        same_source = turn.before is not None and turn.newest.source in (turn.before.source, ROSTER)
        known = found.get(turn.external_id)
        if known is not None and answers_repetition(known, policies[turn.newest.source], same_source=same_source):
            turn.result = EventResult(_STATUSES.get(known.state, ReceiptStatus.ACCEPTED), known.id)
            turn.new_epoch = False
        elif same_source:
            turn.new_epoch = False  # its job stands beside those before it


def _change_states(connection: Connection, organisation_id: int, turns: Sequence[_Turn]) -> None:
    """Let new newest events replace what older ones had asked for."""
    changed = [turn for turn in turns if turn.new_epoch]
    if changed:
        states = {turn.external_id: turn.inactive_from for turn in changed}
        person_events.set_states(connection, organisation_id, states)
    epochs = {turn.external_id: turn.epoch for turn in changed if turn.person.epoch > 0}
    voided = closing.close_superseded_persons(connection, organisation_id, epochs) if epochs else []
    if voided:
        jobs.finish(connection, sorted(set(voided)))


def _sync_learners(
    connection: Connection, organisation_id: int, turns: Sequence[_Turn], people: LockedPeople, now: datetime
) -> None:
    """Set the learners' `active`; a learner whom the platform does not know yet stays due."""
    changed: dict[str, bool] = {}
    settled: list[str] = []
    for turn in turns:
        learner_active = people.learners.active.get(turn.external_id)
        if learner_active is None:
            continue
        in_effect = is_in_effect(turn.inactive_from, now)
        active = learner_is_active(
            person_active=turn.inactive_from is None,
            in_effect=in_effect,
            learner_active=learner_active,
            was_active=turn.was_active,
        )
        if active is not learner_active:
            changed[turn.external_id] = active
        if in_effect:
            settled.append(turn.external_id)
    if changed:
        person_events.set_learners_active(connection, organisation_id, changed)
    if settled:
        person_events.settle(connection, organisation_id, settled)


def _deactivate(
    connection: Connection, organisation_id: int, asking: Sequence[tuple[_Turn, DeactivationPolicy]], now: datetime
) -> dict[str, EventResult]:
    """Submit the jobs of deactivations, as the policies of their sources have it."""
    # The grace period starts with the receipt at the earliest: nobody could take back what took effect before.
    times = [
        add_grace(max(turn.newest.effective_at, turn.arrived.received_at), policy.grace) for turn, policy in asking
    ]
    to_admit = [time <= now and policy.on_deactivate != "hold" for time, (_, policy) in zip(times, asking, strict=True)]
    # One that is held can be released without another count; one that is scheduled is counted when it falls due.
    counted = [
        turn.external_id
        for (turn, policy), time in zip(asking, times, strict=True)
        if time <= now or policy.on_deactivate == "hold"
    ]
    withdrawn = brake.find_withdrawn_persons(connection, organisation_id, counted) if counted else set()
    learners = [int(turn.external_id in withdrawn) for turn, _ in asking]
    admitted = [count for count, admits in zip(learners, to_admit, strict=True) if admits]
    verdicts = iter(admit_persons(connection, organisation_id, admitted) if admitted else [])
    new: list[NewDeactivation] = []
    for (turn, policy), time, admits, count in zip(asking, times, to_admit, learners, strict=True):
        figures = next(verdicts) if admits else None
        new.append(_new_job(turn, time, policy, now, figures, count))
    made = deactivations.insert(connection, organisation_id, new)
    if len(made) < len(new):
        raise IdempotencyConflictError(REUSED)  # by a job of another command that committed meanwhile
    notify_after_commit(connection)
    answers = {JobState.HELD: ReceiptStatus.HELD, JobState.SCHEDULED: ReceiptStatus.SCHEDULED}
    return {
        one.arrived.external_id: EventResult(
            answers.get(one.state, ReceiptStatus.ACCEPTED), made[one.arrived.external_id]
        )
        for one in new
    }


def _new_job(
    turn: _Turn,
    time: datetime,
    policy: DeactivationPolicy,
    now: datetime,
    figures: dict[str, object] | None,
    learners: int,
) -> NewDeactivation:
    is_due = time <= now
    cause = "policy" if policy.on_deactivate == "hold" else "brake" if figures is not None else None
    state = JobState.HELD if cause else JobState.QUEUED if is_due else JobState.SCHEDULED
    return NewDeactivation(turn.arrived, turn.epoch, None if is_due else time, state, cause, figures, learners)


def add_grace(time: datetime, grace: timedelta) -> datetime:
    """When a deactivation is withdrawn that takes effect at `time`.

    Raises:
        InvalidInputError: that is later than any time that can be stored.
    """
    try:
        return time + grace
    except OverflowError:
        raise InvalidInputError("effective_at: that time is too far away") from None
