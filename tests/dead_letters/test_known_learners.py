"""Letters of unknown learners, tried again once the platform knows them: as many as the brake has room for."""

from functools import partial

import pytest

from schemas.control import BrakeSetting
from tests.support.racing import held
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies
from worker.jobs import brake
from worker.ledger import dead_letters


def unknown(db: Database, world: World, settings: Settings, prefix: str, count: int) -> list[str]:
    """So many persons whom the platform does not know, each deactivated: a letter each."""
    people = [f"{prefix}-{number}" for number in range(count)]
    for person in people:
        world.event(db, "deactivated", person)
    decide_due(db, settings)
    return people


def appear(world: World, *people: str) -> None:
    for person in people:
        world.enrolment(person)


def limit(db: Database, organisation_id: int, floor: int) -> None:
    wanted = BrakeSetting(floor=floor, share=0.0)
    brake.set_limits(db, organisation_id=organisation_id, wanted=wanted, actor="test:approver")


def redriven(world: World) -> list[str]:
    rows = world.run("SELECT learner_external_id FROM withdrawals.dead_letters WHERE state <> 'open' ORDER BY id")
    return [row[0] for row in rows]


def test_an_organisation_drives_as_many_as_there_is_room_for_the_oldest_first(
    db: Database, world: World, environment: Settings
) -> None:
    """And another organisation drives all of its own, whatever the first one has."""
    here = unknown(db, world, environment, "here", 8)
    first = world.organisation_id
    world.organisation_id = world.organisation("Other")
    there = unknown(db, world, environment, "there", 2)
    appear(world, *there)
    world.organisation_id = first
    appear(world, *here)
    world.run("DELETE FROM withdrawals.brake_volume")
    world.run("UPDATE withdrawals.jobs SET admitted_at = now() - interval '2 days'")
    limit(db, first, 3)
    places: dict[int, int] = {}
    assert remedies.redrive_known_learners(db, places) == 5
    assert redriven(world) == [*here[:3], *there]
    assert remedies.redrive_known_learners(db, places) == 0, "there is no room left"
    limit(db, first, 5)
    assert remedies.redrive_known_learners(db, places) == 2
    assert redriven(world) == [*here[:5], *there], "it goes on with the oldest"
    assert_balanced(db)


def test_however_many_wait_a_round_looks_at_one_page_and_the_next_goes_on(
    db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = unknown(db, world, environment, "late", 45)
    appear(world, people[2], people[44])
    small = partial(dead_letters.find_known_learners, most=20)
    monkeypatch.setattr(dead_letters, "find_known_learners", small)
    places: dict[int, int] = {}
    assert [remedies.redrive_known_learners(db, places) for _ in range(3)] == [1, 0, 1]
    appear(world, people[0])
    assert remedies.redrive_known_learners(db, places) == 1, "after the last page it begins again"
    assert redriven(world) == [people[0], people[2], people[44]]


def test_a_letter_that_a_worker_is_deciding_is_left_for_the_next_round(
    db: Database, owner: Database, world: World, environment: Settings
) -> None:
    people = unknown(db, world, environment, "late", 2)
    appear(world, *people)
    with held(owner, "SELECT 1 FROM withdrawals.dead_letters WHERE learner_external_id = 'late-0' FOR UPDATE"):
        assert remedies.redrive_known_learners(db) == 1
    assert remedies.redrive_known_learners(db) == 1
    decide_due(db, environment)
    assert {letter.state for letter in world.letters()} == {"resolved"}
    assert_balanced(db)


def test_without_such_letters_nothing_is_looked_at(db: Database, world: World) -> None:
    assert remedies.redrive_known_learners(db) == 0
    with db.begin() as connection:
        assert dead_letters.find_known_learners(connection, {}) == []
