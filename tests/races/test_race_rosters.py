"""A roster is applied and its job decided while events about the same people arrive.

Rule 10: "a person who comes back before it is applied is not withdrawn". DESIGN.md §2: "Decide only from rows you hold
locked."
"""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

from schemas.events import PersonEvent
from tests.support.incoming import incoming, make_registered, post
from tests.support.racing import Threads, await_waiters, chunks, decide, held, take, workers
from tests.support.rosters import MORNING, NOW, accept, confirm, csv, enrol, plan
from tests.world import PATIENCE, World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.ledger import person_events
from worker.people import events, roster_steps

PEOPLE = [f"person-{number}" for number in range(12)]


def test_a_reactivation_committed_while_the_chunk_of_a_roster_waits_wins(
    slow_db: Database, world: World, threads: Threads
) -> None:
    """The chunk is about many people: the lock on this person shows the newer event, and the others are withdrawn."""
    ids = enrol(world, "anna", "ben")
    done = accept(slow_db, world, plan(slow_db, world, csv(anna="left", ben="left", carla="active")))
    claim = take(slow_db)
    with slow_db.begin() as connection:
        person_events.lock(connection, world.organisation_id, "anna")
        deciding = threads.go(decide, slow_db, claim)
        await_waiters(world)
        event = PersonEvent(type="user.reactivated", external_id="anna")
        events.record_in(connection, world.requester(door="hr:hr"), "hr", event)
    deciding.result(PATIENCE)
    assert world.outcomes(done.job_id or 0) == {ids["anna"]: "superseded", ids["ben"]: "withdrawn"}
    assert world.active("anna")
    assert_balanced(slow_db)


def test_a_chunk_of_a_roster_waits_for_an_event_in_the_inbox(db: Database, world: World, environment: Settings) -> None:
    """Whether it is newer is known once it is applied."""
    ids = enrol(world, "anna", "ben")
    done = accept(db, world, plan(db, world, csv(anna="left", ben="left", carla="active")))
    source = make_registered(db, environment, world.organisation_id)
    post(db, source, incoming("anna", "reactivated", occurred_at=NOW))
    assert decide(db, take(db)).decided == []
    assert chunks(world, done.job_id or 0, "state") == [("ready",)]
    world.run("UPDATE withdrawals.chunks SET run_after = now()")
    decide_due(db, environment)
    assert world.outcomes(done.job_id or 0) == {ids["anna"]: "superseded", ids["ben"]: "withdrawn"}
    assert_balanced(db)


def test_a_roster_and_events_at_once_end_as_the_newest_says(
    db: Database, owner: Database, world: World, environment: Settings, threads: Threads
) -> None:
    """Two appliers, as of two relays, workers, and events that are older and newer than the roster. One person is held
    by the platform meanwhile: the roster goes on without, and comes back."""
    ids = enrol(world, *PEOPLE, "stays")
    older, newer, nothing = PEOPLE[:4], PEOPLE[4:8], PEOPLE[8:]
    roster = csv(stays="active", **dict.fromkeys(PEOPLE, "left"))
    confirm(db, world, plan(db, world, roster))

    def send(person: str, hours: int) -> None:
        world.event(db, "reactivated", person, occurred_at=MORNING + timedelta(hours=hours))

    with (
        workers(db, environment, 2),
        held(owner, "SELECT FROM lms.learners WHERE external_id = 'person-9' FOR UPDATE") as hold,
    ):
        acts: list[Callable[[], object]] = [partial(roster_steps.apply_accepted, db) for _ in "12"]
        acts += [partial(send, person, -1) for person in older]
        acts += [partial(send, person, 1) for person in newer]
        assert [one for one in threads.together(*acts) if isinstance(one, Exception)] == []
        hold.release()

        def done() -> bool:
            roster_steps.apply_accepted(db)
            return world.run("SELECT FROM withdrawals.rosters WHERE state = 'done'") != []

        eventually(done, what="the roster is done")
        eventually(
            lambda: world.run("SELECT FROM withdrawals.jobs WHERE finished_at IS NULL") == [], what="the jobs end"
        )
    assert {person for person in ids if world.active(person)} == {*newer, "stays"}
    assert {world.status(ids[person]) for person in (*older, *nothing)} == {"withdrawn"}
    assert world.one("SELECT count(*) FROM withdrawals.jobs WHERE door = 'hr:roster'") == 1
    assert_balanced(db)
