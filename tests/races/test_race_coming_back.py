"""A person comes back, or leaves again, while their deactivation is on its way.

Rule 10: "a person who comes back before it is applied is not withdrawn (`superseded`), also on a late retry or a
redrive of an old dead letter. Coming back later never reinstates by itself". DESIGN.md §2: "for a person job lock
person and learner (a reactivation takes the same locks)".
"""

from datetime import UTC, datetime, timedelta

import pytest

from schemas.events import EventType, PersonEvent
from schemas.jobs import JobRequest
from tests.support.racing import (
    Threads,
    await_waiters,
    chunks,
    decide,
    falls_due,
    held,
    hold_enrolments,
    job_state,
    leases_run_out,
    take,
    workers,
)
from tests.world import PATIENCE, World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies
from worker.jobs.submit import submit
from worker.ledger import due_deactivations, person_events
from worker.people import events
from worker.queue import recovery
from worker.queue.broker import make_broker
from worker.queue.relay import Relay

BACK: EventType = "user.reactivated"
AWAY: EventType = "user.deactivated"
HOLD_LEARNER = "SELECT 1 FROM lms.learners WHERE external_id = 'anna' FOR UPDATE"


def _deactivated(db: Database, world: World) -> tuple[int, int]:
    """Anna, who is enrolled and whose deactivation is accepted: the enrolment, the job."""
    enrolment_id = world.enrolment("anna")
    receipt = world.event(db, "deactivated", "anna")
    assert receipt.job_id is not None
    return enrolment_id, receipt.job_id


def test_a_reactivation_committed_while_the_deactivation_waits_wins(
    slow_db: Database, world: World, threads: Threads
) -> None:
    """The chunk is locked and cannot be closed from outside; the lock on the person shows the newer event."""
    enrolment_id, job_id = _deactivated(slow_db, world)
    claim = take(slow_db)
    with slow_db.begin() as connection:
        person_events.lock(connection, world.organisation_id, "anna")
        deciding = threads.go(decide, slow_db, claim)
        await_waiters(world)
        event = PersonEvent(type=BACK, external_id="anna")
        events.record_in(connection, world.requester(door="hr:hr"), "hr", event)
    deciding.result(PATIENCE)
    assert world.status(enrolment_id) == "in_progress"
    assert world.active("anna")
    assert chunks(world, job_id, "state, counts") == [("superseded", {"superseded": 1})]
    assert job_state(world, job_id) == "superseded"
    assert_balanced(slow_db)


def test_a_reactivation_closes_a_claimed_chunk_under_a_worker_that_has_not_begun(
    slow_db: Database, world: World, threads: Threads
) -> None:
    """The reactivation has closed the chunk and not committed; the worker waits for the chunk."""
    enrolment_id, job_id = _deactivated(slow_db, world)
    claim = take(slow_db)
    with slow_db.begin() as connection:
        event = PersonEvent(type=BACK, external_id="anna")
        events.record_in(connection, world.requester(door="hr:hr"), "hr", event)
        deciding = threads.go(decide, slow_db, claim)
        await_waiters(world)
    assert deciding.result(PATIENCE).decided == []
    assert world.status(enrolment_id) == "in_progress"
    assert world.active("anna")
    assert job_state(world, job_id) == "superseded"
    assert_balanced(slow_db)


@pytest.mark.parametrize("stopped_at", ["the learner", "the enrolment"])
def test_a_deactivation_that_locks_the_person_first_is_applied_and_stays(
    slow_db: Database, owner: Database, world: World, threads: Threads, stopped_at: str
) -> None:
    """The reverse order: the reactivation waits for the person until the withdrawal has committed."""
    enrolment_id, job_id = _deactivated(slow_db, world)
    claim = take(slow_db)
    brake = held(owner, HOLD_LEARNER) if stopped_at == "the learner" else hold_enrolments(owner, enrolment_id)
    with brake as hold:
        deciding = threads.go(decide, slow_db, claim)
        await_waiters(world, 1)
        coming_back = threads.go(world.event, slow_db, "reactivated", "anna")
        await_waiters(world, 2)
        hold.release()
        assert coming_back.result(PATIENCE).status == "reactivated"
        deciding.result(PATIENCE)
    assert world.status(enrolment_id) == "withdrawn"
    assert world.outcomes(job_id) == {enrolment_id: "withdrawn"}
    assert world.active("anna")
    assert job_state(world, job_id) == "completed"
    assert_balanced(slow_db)


def test_an_effective_deactivation_makes_the_learner_inactive_when_accepted(db: Database, world: World) -> None:
    """DESIGN.md §2: "`active` becomes false when an event that is effective is accepted"; no worker has come yet."""
    world.learner("anna")
    world.event(db, "deactivated", "anna")
    assert not world.active("anna")
    world.event(db, "reactivated", "anna")
    assert world.active("anna")
    assert_balanced(db)


@pytest.mark.parametrize("round_number", range(3))
def test_coming_back_and_being_applied_at_the_same_moment_end_in_one_of_two_ways(
    db: Database, world: World, environment: Settings, threads: Threads, round_number: int
) -> None:
    """Withdrawn and completed, or untouched and superseded; the learner is active in both."""
    people_of_this_round = [f"p{round_number}-{n}" for n in range(4)]
    ids = {person: world.enrolment(person) for person in people_of_this_round}
    with workers(db, environment, 3):
        jobs = {person: world.event(db, "deactivated", person).job_id for person in people_of_this_round}
        results = threads.together(
            *[lambda person=person: world.event(db, "reactivated", person) for person in people_of_this_round]
        )
        assert not [error for error in results if isinstance(error, Exception)]
        eventually(
            lambda: all(job_state(world, job or 0) in ("completed", "superseded") for job in jobs.values()),
            what="every job ended",
        )
    for person, job in jobs.items():
        applied = job_state(world, job or 0) == "completed"
        assert world.status(ids[person]) == ("withdrawn" if applied else "in_progress")
        assert world.active(person)
    assert_balanced(db)


def test_leaving_again_while_the_first_deactivation_waits_is_a_job_of_its_own(
    slow_db: Database, world: World, threads: Threads
) -> None:
    """Away, back and away again: the first job is superseded although the person is away; the last one withdraws."""
    enrolment_id, first = _deactivated(slow_db, world)
    claim = take(slow_db)
    with slow_db.begin() as connection:
        person_events.lock(connection, world.organisation_id, "anna")
        deciding = threads.go(decide, slow_db, claim)
        await_waiters(world)
        for kind in (BACK, AWAY):
            event = PersonEvent(type=kind, external_id="anna")
            receipt = events.record_in(connection, world.requester(door="hr:hr"), "hr", event)
    deciding.result(PATIENCE)
    assert job_state(world, first) == "superseded"
    assert world.status(enrolment_id) == "in_progress"
    assert receipt.job_id is not None
    decide(slow_db, take(slow_db))
    assert world.outcomes(receipt.job_id) == {enrolment_id: "withdrawn"}
    assert not world.active("anna")
    assert_balanced(slow_db)


def test_a_late_retry_of_a_deactivation_finds_the_person_back(
    db: Database, world: World, environment: Settings
) -> None:
    """Its worker vanished, the person came back, the chunk returned: there is nothing to take over."""
    enrolment_id, job_id = _deactivated(db, world)
    take(db)
    world.event(db, "reactivated", "anna")
    leases_run_out(world)
    recovery.take_over(db, environment)
    decide_due(db, environment)
    assert world.status(enrolment_id) == "in_progress"
    assert job_state(world, job_id) == "superseded"
    assert_balanced(db)


def test_a_redrive_and_a_reactivation_at_once_do_not_withdraw_who_is_back(
    slow_db: Database, world: World, environment: Settings, threads: Threads
) -> None:
    """ "also on a late retry or a redrive of an old dead letter": the attempt waits for the person, who is back."""
    enrolment_id = world.enrolment("anna", pathway_id=world.pathway())
    job_id = world.event(slow_db, "deactivated", "anna").job_id
    decide_due(slow_db, environment)
    (letter,) = world.letters()
    world.run("UPDATE lms.enrolments SET pathway_id = NULL WHERE id = :id", id=enrolment_id)
    remedies.redrive(slow_db, organisation_id=world.organisation_id, letter_ids=[letter.id], actor="test:support")
    claim = take(slow_db)
    with slow_db.begin() as connection:
        person_events.lock(connection, world.organisation_id, "anna")
        deciding = threads.go(decide, slow_db, claim)
        await_waiters(world)
        event = PersonEvent(type=BACK, external_id="anna")
        events.record_in(connection, world.requester(door="hr:hr"), "hr", event)
    deciding.result(PATIENCE)
    assert world.status(enrolment_id) == "in_progress"
    assert world.outcomes(job_id or 0) == {enrolment_id: "superseded"}
    assert [letter.state for letter in world.letters()] == ["resolved"]
    assert world.active("anna")
    assert_balanced(slow_db)


@pytest.mark.parametrize("first", ["the platform", "the deactivation"])
def test_an_enrolment_made_while_its_learner_is_deactivated_is_not_forgotten(
    slow_db: Database, owner: Database, world: World, threads: Threads, first: str
) -> None:
    """Rule 7: "A deactivated user loses all active enrolments". Whoever enrols shares the learner's lock."""
    enrolment_id, job_id = _deactivated(slow_db, world)
    claim = take(slow_db)
    enrol = """INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status)
        SELECT e.organisation_id, e.learner_id, s.id, 'no_attempts' FROM lms.enrolments e, lms.series s
        WHERE e.id = :id AND s.code = 'late'"""
    world.run("INSERT INTO lms.series (organisation_id, code, title) VALUES (:o, 'late', '')", o=world.organisation_id)
    if first == "the platform":
        with held(owner, enrol, id=enrolment_id) as hold:
            deciding = threads.go(decide, slow_db, claim)
            await_waiters(world)
            hold.release()
            deciding.result(PATIENCE)
        assert sorted(world.outcomes(job_id).values()) == ["withdrawn", "withdrawn"]
    else:
        with hold_enrolments(owner, enrolment_id) as hold:
            deciding = threads.go(decide, slow_db, claim)
            await_waiters(world, 1)
            enrolling = threads.go(world.run, enrol, id=enrolment_id)
            await_waiters(world, 2)  # the platform waits: it enrols somebody who is inactive by then, knowingly
            hold.release()
            deciding.result(PATIENCE)
            enrolling.result(PATIENCE)
        assert sorted(world.outcomes(job_id).values()) == ["withdrawn"]
    assert not world.active("anna")
    assert_balanced(slow_db)


def test_an_unknown_learner_is_deactivated_once_the_platform_knows_them(
    db: Database, world: World, environment: Settings
) -> None:
    """DESIGN.md §2: "The sweep redrives `unknown_learner` once the learner exists"; all of theirs is withdrawn."""
    broker = make_broker(environment.broker_url.get_secret_value())
    relay = Relay(db, broker, environment)
    receipt = world.event(db, "deactivated", "anna")
    assert receipt.job_id is not None
    decide_due(db, environment)
    assert [(row.code, row.state, row.learner_external_id) for row in world.letters()] == [
        ("unknown_learner", "open", "anna")
    ]
    assert job_state(world, receipt.job_id) == "completed_with_exceptions"
    relay.sweep()
    decide_due(db, environment)
    assert [row.state for row in world.letters()] == ["open"]
    assert_balanced(db)
    ids = [world.enrolment("anna") for _ in range(3)]
    with workers(db, environment, 3):
        relay.sweep()
        eventually(lambda: [row.state for row in world.letters()] == ["resolved"], what="the letter resolved")
    broker.close()
    broker.client.close()
    assert world.outcomes(receipt.job_id) == dict.fromkeys(ids, "withdrawn")
    assert not world.active("anna")
    assert_balanced(db)


def test_two_relays_redrive_an_unknown_learner_once(
    slow_db: Database, owner: Database, world: World, environment: Settings, threads: Threads
) -> None:
    """Both found the letter open; the second finds an attempt in flight and leaves it."""
    world.event(slow_db, "deactivated", "anna")
    decide_due(slow_db, environment)
    enrolment_id = world.enrolment("anna")
    with held(owner, "SELECT 1 FROM withdrawals.organisation_settings FOR UPDATE") as hold:
        both = [threads.go(remedies.redrive_known_learners, slow_db) for _ in range(2)]
        await_waiters(world, 2)
        hold.release()
        assert sorted(future.result(PATIENCE) for future in both) == [0, 1]
    decide_due(slow_db, environment)
    assert world.status(enrolment_id) == "withdrawn"
    assert world.one("SELECT count(*) FROM withdrawals.chunks WHERE redrives IS NOT NULL") == 1
    assert_balanced(slow_db)


def test_who_came_back_before_the_platform_knew_them_stays_active(
    db: Database, world: World, environment: Settings
) -> None:
    """The letter of the deactivation is moot; the attempt at it says so and closes it."""
    job_id = world.event(db, "deactivated", "anna").job_id
    decide_due(db, environment)
    world.event(db, "reactivated", "anna")
    enrolment_id = world.enrolment("anna")
    assert remedies.redrive_known_learners(db) == 1
    decide_due(db, environment)
    assert world.status(enrolment_id) == "in_progress"
    assert world.active("anna")
    assert [row.state for row in world.letters()] == ["resolved"]
    assert chunks(world, job_id or 0, "state") == [("superseded",), ("done",)]
    assert_balanced(db)


def test_a_deactivation_for_later_is_applied_when_it_falls_due(
    db: Database, world: World, environment: Settings
) -> None:
    """The learner is active until then; DESIGN.md §2: "`active` becomes false … when it falls due"."""
    broker = make_broker(environment.broker_url.get_secret_value())
    relay = Relay(db, broker, environment)
    enrolment_id = world.enrolment("anna")
    due = world.one("SELECT clock_timestamp()") + timedelta(hours=1)
    receipt = world.event(db, "deactivated", "anna", effective_at=due)
    assert receipt.status == "scheduled"
    assert receipt.job_id is not None
    relay.sweep()
    decide_due(db, environment)
    assert job_state(world, receipt.job_id) == "scheduled"
    assert world.active("anna")
    assert world.status(enrolment_id) == "in_progress"
    falls_due(world)
    relay.sweep()
    assert not world.active("anna")
    decide_due(db, environment)
    broker.close()
    broker.client.close()
    assert world.outcomes(receipt.job_id) == {enrolment_id: "withdrawn"}
    assert_balanced(db)


def test_a_newer_deactivation_with_another_date_replaces_the_first(
    db: Database, world: World, environment: Settings
) -> None:
    """The first job is superseded at once and never falls due; the new date holds."""
    enrolment_id = world.enrolment("anna")
    day = timedelta(days=1)
    now = datetime.now(UTC)
    first = world.event(db, "deactivated", "anna", effective_at=now + 2 * day, occurred_at=now)
    second = world.event(db, "deactivated", "anna", effective_at=now + 5 * day, occurred_at=now + timedelta(seconds=1))
    assert first.job_id is not None
    assert second.job_id is not None
    assert [job_state(world, job) for job in (first.job_id, second.job_id)] == ["superseded", "scheduled"]
    assert world.active("anna")
    third = world.event(db, "deactivated", "anna", occurred_at=now + timedelta(seconds=2))
    assert job_state(world, second.job_id) == "superseded"
    assert not world.active("anna")
    decide_due(db, environment)
    assert world.outcomes(third.job_id or 0) == {enrolment_id: "withdrawn"}
    assert_balanced(db)


def test_a_reactivation_while_the_relay_deactivates_leaves_the_learner_active(
    slow_db: Database, world: World, threads: Threads
) -> None:
    """The relay makes learners inactive that fell due; it and the reactivation take the person's lock in turn."""
    enrolment_id = world.enrolment("anna")
    due = world.one("SELECT clock_timestamp()") + timedelta(hours=1)
    job_id = world.event(slow_db, "deactivated", "anna", effective_at=due).job_id
    falls_due(world)
    with slow_db.begin() as connection:
        assert due_deactivations.lock_due_deactivation(connection, world.organisation_id, "anna")
        assert person_events.sync_learner(connection, world.organisation_id, "anna", was_active=True)
        coming_back = threads.go(world.event, slow_db, "reactivated", "anna")
        await_waiters(world)
    assert coming_back.result(PATIENCE).status == "reactivated"
    assert world.active("anna")
    assert world.status(enrolment_id) == "in_progress"
    assert job_state(world, job_id or 0) == "superseded"
    assert_balanced(slow_db)


def test_a_letter_of_two_deactivations_is_decided_for_each_as_it_stands(
    db: Database, world: World, environment: Settings
) -> None:
    """Away, back and away again before the platform knew them: the first is superseded, the second withdraws."""
    first = world.event(db, "deactivated", "anna").job_id or 0
    decide_due(db, environment)
    world.event(db, "reactivated", "anna")
    second = world.event(db, "deactivated", "anna").job_id or 0
    decide_due(db, environment)
    assert [row.code for row in world.letters()] == ["unknown_learner"]
    assert_balanced(db)
    ids = [world.enrolment("anna") for _ in range(2)]
    assert remedies.redrive_known_learners(db) == 1
    with workers(db, environment, 3):
        eventually(lambda: [row.state for row in world.letters()] == ["resolved"], what="the letter resolved")
    assert world.outcomes(first) == {}
    assert world.outcomes(second) == dict.fromkeys(ids, "withdrawn")
    assert not world.active("anna")
    assert_balanced(db)


def test_a_letter_of_a_deactivation_and_a_job_is_withdrawn_by_the_earlier(
    db: Database, world: World, environment: Settings
) -> None:
    """Both name the same unknown learner and share the letter; both end with every enrolment accounted for."""
    request = JobRequest(reason="not_required", source="admin", learner_external_id="anna")
    asked = submit(db, world.requester(), request).job.id
    left = world.event(db, "deactivated", "anna").job_id or 0
    decide_due(db, environment)
    assert [row.code for row in world.letters()] == ["unknown_learner"]
    ids = [world.enrolment("anna") for _ in range(2)]
    assert remedies.redrive_known_learners(db) == 1
    with workers(db, environment, 3):
        eventually(lambda: [row.state for row in world.letters()] == ["resolved"], what="the letter resolved")
    assert world.outcomes(asked) == dict.fromkeys(ids, "withdrawn")
    assert world.outcomes(left) == dict.fromkeys(ids, "already_withdrawn")
    assert not world.active("anna")
    assert_balanced(db)
