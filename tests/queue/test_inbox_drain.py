"""The inbox in the drain: what cannot be applied stands alone, and what passes is tried again."""

from collections import Counter

import pytest

from tests.support import failpoints
from tests.support.failpoints import armed
from tests.support.incoming import due_again, incoming, make_registered, post, results, waiting
from tests.world import World, apply_inbox, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.people import inbox
from worker.people.events import EventReceipt
from worker.queue.broker import make_broker
from worker.queue.relay import Relay

REFUSED = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN IF new.external_id = 'poison' THEN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END IF; RETURN new; END $$
"""


def refuse_poison(world: World, code: str = "23514") -> None:
    """Let the database refuse whatever is written about one person."""
    world.run(REFUSED.format(code=code))
    world.run(
        "CREATE TRIGGER refuse BEFORE INSERT ON withdrawals.persons FOR EACH ROW EXECUTE FUNCTION public.refuse()"
    )


def apply_again_and_again(db: Database, world: World, settings: Settings, times: int) -> None:
    for _ in range(times):
        apply_inbox(db, settings)
        due_again(world)


def test_an_event_that_cannot_be_applied_becomes_a_letter_and_its_neighbours_go_on(
    db: Database, world: World, environment: Settings
) -> None:
    source = make_registered(db, environment, world.organisation_id)
    persons = [f"person-{number}" for number in range(20)]
    for person in persons:
        world.enrolment(person)
    refuse_poison(world)
    poison = incoming("poison", key="msg_poison")
    post(db, source, *map(incoming, persons[:11]), poison, *map(incoming, persons[11:]))
    apply_inbox(db, environment)
    assert waiting(world) == ["poison"], "its neighbours are applied at once"
    assert world.letters() == []
    apply_again_and_again(db, world, environment, environment.max_attempts)
    assert Counter(results(world)) == {("accepted", False): 20, ("invalid", False): 1}
    (letter,) = world.letters()
    assert (letter.code, letter.state) == ("invalid_event", "open")
    found = world.run("SELECT message, evidence FROM withdrawals.dead_letters")[0]
    assert "accepted and cannot be applied" in found.message
    assert found.evidence["event_id"] == "msg_poison"
    again = inbox.receive(db, source, poison)
    assert isinstance(again, EventReceipt)
    assert (again.status, again.repeated) == ("accepted", True), "it was accepted, and is not refused now"
    assert_balanced(db)


def test_events_after_the_poisoned_one_are_applied_while_it_is_tried_again(
    db: Database, world: World, environment: Settings
) -> None:
    source = make_registered(db, environment, world.organisation_id)
    refuse_poison(world)
    post(db, source, incoming("poison"))
    apply_inbox(db, environment)
    post(db, source, incoming("anna"))
    apply_inbox(db, environment)
    assert waiting(world) == ["poison"]


@pytest.mark.parametrize("code", ["40001", "55P03"])
def test_what_passes_by_itself_is_tried_again_and_makes_no_letter(
    db: Database, world: World, environment: Settings, code: str
) -> None:
    """A serialization failure that outlasts the retries of an attempt, and a lock that nobody gives up."""
    db.retry_seconds = 0.1
    source = make_registered(db, environment, world.organisation_id)
    refuse_poison(world, code)
    post(db, source, incoming("poison"), incoming("anna"))
    apply_again_and_again(db, world, environment, environment.max_attempts + 4)
    assert "poison" in waiting(world)
    assert world.letters() == []
    assert world.one("SELECT max(own_failures) FROM withdrawals.receipts") == 0
    world.run("DROP TRIGGER refuse ON withdrawals.persons")
    apply_inbox(db, environment)
    assert results(world) == [("accepted", False)] * 2
    assert_balanced(db)


def test_a_locked_row_that_times_out_is_left_behind_by_its_neighbours(
    db: Database, world: World, environment: Settings
) -> None:
    """From the second timeout on the set is halved, as a chunk is split."""
    source = make_registered(db, environment, world.organisation_id)
    refuse_poison(world, "55P03")
    post(db, source, *map(incoming, ["ann", "ben", "poison", "cleo", "dan"]))
    apply_again_and_again(db, world, environment, 8)
    assert waiting(world) == ["poison"]


def test_what_outlasts_the_time_for_passing_errors_comes_before_a_person(
    db: Database, world: World, environment: Settings
) -> None:
    source = make_registered(db, environment, world.organisation_id)
    refuse_poison(world, "55P03")
    post(db, source, incoming("poison"))
    apply_inbox(db, environment)
    world.run("UPDATE withdrawals.receipts SET run_after = now(), tried_for = interval '25 hours'")
    apply_inbox(db, environment)
    assert results(world) == [("invalid", False)]
    assert [letter.code for letter in world.letters()] == ["invalid_event"]


def test_the_relay_counts_waiting_events_as_due_work(db: Database, world: World, environment: Settings) -> None:
    source = make_registered(db, environment, world.organisation_id)
    broker = make_broker(environment.broker_url.get_secret_value())
    relay = Relay(db, broker, environment)
    assert relay.publish() == 0
    post(db, source, incoming("anna"), incoming("ben"))
    assert relay.publish() == 1, "one worker applies the events of an organisation"
    apply_inbox(db, environment)
    broker.client.flushall()
    decide_due(db, environment)
    assert relay.publish() == 0
    broker.client.close()


POINTS = ("inbox_sets.take:after", "person_events.lock_all:after", "person_events.record_events:after",
          "jobs.audit_events:after", "deactivations.insert:after", "inbox_sets.record_results:after",
          "inbox.step:commit:before", "inbox.step:commit:after")  # fmt: skip


class Died(BaseException):
    """As if the process had ended right there."""


@pytest.mark.part(3)
@pytest.mark.parametrize("name", POINTS)
@pytest.mark.parametrize("action", ["death", "lose_connection", "terminate_backend", "serialization_failure"])
def test_an_accepted_event_is_applied_once_whatever_happens_meanwhile(
    db: Database, world: World, environment: Settings, name: str, action: str
) -> None:
    source = make_registered(db, environment, world.organisation_id)
    ids = {person: world.enrolment(person) for person in ("anna", "ben")}
    post(db, source, *map(incoming, ids))
    act = failpoints.raises(Died) if action == "death" else failpoints.ACTIONS[action]
    with armed(name, act) as failpoint:
        try:
            apply_inbox(db, environment)
        except Died:
            assert action == "death"
    failpoints.uninstall()
    assert failpoint.fired.is_set()
    decide_due(db, environment)
    assert results(world) == [("accepted", False)] * 2
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 2
    assert world.one("SELECT count(*) FROM withdrawals.audit WHERE action = 'user.deactivated'") == 2
    assert [world.status(id_) for id_ in ids.values()] == ["withdrawn"] * 2
    assert_balanced(db)
