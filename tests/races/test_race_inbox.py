"""Two at once at the inbox: workers that apply it, senders of one event, and rows that somebody else holds."""

from collections import Counter
from concurrent.futures import wait
from functools import partial

import pytest
from structlog.testing import capture_logs

from tests.support.incoming import due_again, incoming, make_registered, post, results, waiting
from tests.support.racing import Threads, await_waiters, decide, held, hold_enrolments, running, take
from tests.world import PATIENCE, World, apply_inbox, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.errors import IdempotencyConflictError
from worker.ledger.hr_sources import RegisteredSource
from worker.people import inbox
from worker.people.events import EventReceipt
from worker.people.inbox import Inbox, IncomingEvent
from worker.queue.drain import Drain

SETTINGS_ARE_FREE = "SELECT 1 FROM withdrawals.organisation_settings FOR UPDATE NOWAIT"
HOLD_LEARNER = "SELECT 1 FROM lms.learners WHERE external_id = 'anna' FOR UPDATE"


def test_workers_at_once_apply_every_event_once(db: Database, world: World, environment: Settings) -> None:
    """Of two organisations, with events of the same persons, in whatever sets they are found."""
    other_id = world.organisation("Other")
    sources = [make_registered(db, environment, number) for number in (world.organisation_id, other_id)]
    persons = [f"person-{number}" for number in range(30)]
    for person in persons:
        for organisation_id in (world.organisation_id, other_id):
            world.enrolment(person, organisation_id=organisation_id)
    with running(Drain(db, environment), 4):
        for person in persons:
            for source in sources:
                post(db, source, incoming(person, minute=1), incoming(person, "reactivated", minute=2))
                post(db, source, incoming(person, minute=3))
        eventually(lambda: not waiting(world), what="an empty inbox")
        eventually(
            lambda: world.one("SELECT count(*) FROM lms.enrolments WHERE status = 'withdrawn'") == 60,
            what="everybody withdrawn",
        )
    assert Counter(status for status, _ in results(world))["invalid"] == 0
    assert world.one("SELECT min(epoch) FROM withdrawals.persons") >= 1
    assert_balanced(db)


def test_an_organisation_is_applied_by_one_worker_while_another_goes_on(
    slow_db: Database, owner: Database, world: World, environment: Settings, threads: Threads
) -> None:
    """The first waits for the settings row; the second does not queue up behind it, and takes the next organisation."""
    other_id = world.organisation("Other")
    mine, theirs = (make_registered(slow_db, environment, number) for number in (world.organisation_id, other_id))
    world.run("INSERT INTO withdrawals.organisation_settings (organisation_id) VALUES (:o)", o=world.organisation_id)
    hold_settings = "SELECT 1 FROM withdrawals.organisation_settings WHERE organisation_id = :o FOR UPDATE"
    post(slow_db, mine, incoming("anna"))
    with held(owner, hold_settings, o=world.organisation_id) as hold:
        first = threads.go(apply_inbox, slow_db, environment)
        await_waiters(world)
        post(slow_db, theirs, incoming("ben"))
        apply_inbox(slow_db, environment)
        assert waiting(world) == ["anna"]
        hold.release()
        first.result(PATIENCE)
    assert waiting(world) == []


@pytest.mark.parametrize("row", ["learner", "person"])
def test_a_person_whom_somebody_holds_keeps_their_own_event_waiting_and_no_other(
    slow_db: Database, owner: Database, world: World, environment: Settings, row: str
) -> None:
    """It is no failure, and is tried again after a moment, however long it lasts."""
    source = make_registered(slow_db, environment, world.organisation_id)
    for person in ("anna", "ben"):
        world.enrolment(person)
    world.event(slow_db, "reactivated", "anna")
    hold_person = "SELECT 1 FROM withdrawals.persons WHERE external_id = 'anna' FOR UPDATE"
    with held(owner, HOLD_LEARNER if row == "learner" else hold_person) as hold:
        post(slow_db, source, incoming("anna", occurred_at=None), incoming("ben"))
        for _ in range(12):
            apply_inbox(slow_db, environment)
            due_again(world)
        world.run(SETTINGS_ARE_FREE)
        assert waiting(world) == ["anna"]
        assert not world.active("ben")
        hold.release()
    apply_inbox(slow_db, environment)
    assert not world.active("anna")
    assert world.one("SELECT max(attempts) FROM withdrawals.receipts") == 0
    assert_balanced(slow_db)


def test_whoever_has_come_back_by_an_event_that_waits_is_not_withdrawn(
    db: Database, world: World, environment: Settings
) -> None:
    """Rule 10: a person who comes back before it is applied is not withdrawn. Accepted counts, applied or not."""
    source = make_registered(db, environment, world.organisation_id)
    enrolment_id = world.enrolment("anna")
    post(db, source, incoming("anna", minute=1))
    apply_inbox(db, environment)
    post(db, source, incoming("anna", "reactivated", minute=2))
    decide(db, take(db))
    assert world.status(enrolment_id) == "in_progress"
    decide_due(db, environment)
    assert world.status(enrolment_id) == "in_progress"
    assert world.one("SELECT state FROM withdrawals.jobs") == "superseded"
    assert_balanced(db)


def test_an_event_that_arrives_while_the_person_is_decided_is_applied_after_it(
    slow_db: Database, owner: Database, world: World, environment: Settings, threads: Threads
) -> None:
    source = make_registered(slow_db, environment, world.organisation_id)
    enrolment_id = world.enrolment("anna")
    post(slow_db, source, incoming("anna", minute=1))
    apply_inbox(slow_db, environment)
    with hold_enrolments(owner, enrolment_id) as hold:
        deciding = threads.go(decide, slow_db, take(slow_db))
        await_waiters(world)
        post(slow_db, source, incoming("anna", "reactivated", minute=2))
        apply_inbox(slow_db, environment)
        assert waiting(world) == ["anna"]
        hold.release()
        deciding.result(PATIENCE)
    due_again(world)
    apply_inbox(slow_db, environment)
    assert (world.status(enrolment_id), world.active("anna")) == ("withdrawn", True)
    assert_balanced(slow_db)


def test_a_hundred_senders_of_one_event_through_two_processes_get_one_receipt(
    db: Database, world: World, environment: Settings
) -> None:
    """And a hundred who reuse its id for another body are refused."""
    source = make_registered(db, environment, world.organisation_id)
    doors = [Inbox(db), Inbox(db)]
    one, other = incoming("anna", key="msg_1"), incoming("ben", key="msg_1")
    futures = [doors[number % 2].submit(source, one) for number in range(100)]
    futures += [doors[number % 2].submit(source, other) for number in range(100)]
    wait(futures, PATIENCE)
    for door in doors:
        door.close()
    receipts = [future.result(0) for future in futures if future.exception(0) is None]
    refused = [future.exception(0) for future in futures if future.exception(0) is not None]
    assert all(isinstance(error, IdempotencyConflictError) for error in refused)
    assert (len(receipts), len(refused)) == (100, 100)
    assert all(isinstance(receipt, EventReceipt) for receipt in receipts)
    assert len({receipt.id for receipt in receipts if isinstance(receipt, EventReceipt)}) == 1
    assert [receipt.repeated for receipt in receipts if isinstance(receipt, EventReceipt)].count(False) == 1
    assert len(waiting(world)) == 1


def _send(db: Database, source: RegisteredSource, events: list[IncomingEvent]) -> None:
    """Through a door of its own, all at once."""
    door = Inbox(db)
    futures = [door.submit(source, one) for one in events]
    door.close()
    for future in futures:
        future.result(0)


def test_two_processes_that_store_the_same_events_in_other_orders_do_not_deadlock(
    db: Database, world: World, environment: Settings, threads: Threads
) -> None:
    source = make_registered(db, environment, world.organisation_id)
    with capture_logs() as logs:
        for number in range(20):
            given = [incoming(f"person-{place}", key=f"{number}-{place}") for place in range(20)]
            outcomes = threads.together(partial(_send, db, source, given), partial(_send, db, source, given[::-1]))
            assert outcomes == [None, None]
    assert world.one("SELECT count(*) FROM withdrawals.receipts") == 400
    # The server's own count is written late, and has those of earlier tests of the same database.
    assert [line for line in logs if line["event"] == "transaction.retried"] == []


def test_an_unreadable_event_sent_twice_at_once_is_one_letter(
    db: Database, world: World, environment: Settings, threads: Threads
) -> None:
    source = make_registered(db, environment, world.organisation_id)
    for number in range(5):
        bad = IncomingEvent(f"bad-{number}", b"{", fault="not JSON")
        answers = threads.together(*[partial(inbox.receive, db, source, bad)] * 2)
        assert answers[0] == answers[1]
    assert len(world.letters()) == 5
    assert_balanced(db)
