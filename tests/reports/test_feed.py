"""The feed: who reads on from a place gets everything after it, or is told that this place is no more."""

from datetime import timedelta
from typing import Any

import pytest

from tests.support.commandline import done, refused
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.errors import GoneError
from worker.ledger import feed
from worker.ledger.feed import Page, Place


def withdraw(db: Database, world: World, settings: Settings, count: int = 1) -> list[int]:
    """Withdraw new enrolments, as one entry of the feed."""
    ids = world.enrolments(count)
    world.submit(db, ids)
    decide_due(db, settings)
    db.run(feed.number)
    return ids


def read(db: Database, world: World, after: Place | None = None, **wanted: Any) -> Page:
    with db.begin() as connection:
        return feed.read(connection, world.organisation_id, after, **{"limit": 1000, **wanted})


def subjects(page: Page) -> list[int]:
    return [event.data.enrolment_id for event in page.events]


def make_old(world: World, *positions: int) -> None:
    """As if these entries had been written longer ago than anything is kept."""
    world.run(
        """WITH old AS (UPDATE withdrawals.feed SET at = at - interval '31 days' WHERE position = ANY(:p) RETURNING *)
        UPDATE withdrawals.outcomes o SET decided_at = old.at FROM old WHERE o.chunk_id = ANY(old.chunk_ids)""",
        p=list(positions),
    )


def delete_old(db: Database) -> int:
    return db.run(lambda connection: feed.delete_old(connection, keep=timedelta(days=30)))


def test_pages_of_any_size_hold_each_event_once(db: Database, world: World, environment: Settings) -> None:
    ids = [one for _ in range(3) for one in withdraw(db, world, environment, 4)]
    for limit in (1, 3, 5, 12, 1000):
        place, found, more = None, [], True
        while more:
            page = read(db, world, place, limit=limit)
            place, more = page.place, page.more
            found += subjects(page)
        assert found == ids
        assert not read(db, world, place).events
    sequences = [event.sequence for event in read(db, world).events]
    assert sequences == sorted(set(sequences))
    assert not read(db, world, types=["enrolment.kept"]).events
    assert subjects(read(db, world, Place.parse(read(db, world).events[5].cursor))) == ids[6:]


def test_what_support_has_done_again_comes_when_it_was_done(db: Database, world: World, environment: Settings) -> None:
    world.event(db, "deactivated", "late")  # the platform does not know this person yet
    decide_due(db, environment)
    owned = world.enrolment(pathway_id=world.pathway())
    ids = world.enrolments(1)
    world.submit(db, [owned, *ids])
    decide_due(db, environment)
    db.run(feed.number)
    before = read(db, world)
    assert subjects(before) == ids
    late = world.enrolment("late")
    letters = {letter.code: letter.id for letter in world.letters()}
    done("dead-letters", "redrive", letters["unknown_learner"])
    done("dead-letters", "resolve", letters["pathway_owned"], "--remedy", "override", "--note", "yes")
    decide_due(db, environment)
    db.run(feed.number)
    assert sorted(subjects(read(db, world, before.place))) == sorted([late, owned])
    assert subjects(read(db, world))[:1] == ids, "what came before reads as it did"
    assert len(read(db, world).events) == 3


def test_the_command_line_reads_the_feed_and_its_end(db: Database, world: World, environment: Settings) -> None:
    end = done("events", "--after", "latest")
    assert end == {"items": [], "next_cursor": "0.0.0", "more": False}
    ids = withdraw(db, world, environment, 2)
    first = done("events", "--after", end["next_cursor"], "--limit", "1")
    assert ([item["subject"] for item in first["items"]], first["more"]) == ([str(ids[0])], True)
    rest = done("events", "--after", first["next_cursor"])
    assert ([item["subject"] for item in rest["items"]], rest["more"]) == ([str(ids[1])], False)
    assert "not a cursor of the feed" in refused("events", "--after", "7-3")


def test_a_place_holds_until_what_follows_it_is_old_enough(db: Database, world: World, environment: Settings) -> None:
    start = read(db, world).place
    withdraw(db, world, environment)
    first = read(db, world).place
    make_old(world, 1)
    first = Place(1, 0, read(db, world).place.at)
    assert delete_old(db) == 0, "who has read everything can go on, however long nothing has happened"
    ids = withdraw(db, world, environment)
    assert delete_old(db) == 0
    assert subjects(read(db, world, first)) == ids
    make_old(world, 2)
    assert delete_old(db) == 1
    for place in (start, first):
        with pytest.raises(GoneError, match=r"what follows this place was deleted\. Begin again"):
            read(db, world, place)
    assert subjects(read(db, world)) == ids


def test_a_place_of_another_history_of_the_database_is_refused(
    db: Database, world: World, environment: Settings
) -> None:
    withdraw(db, world, environment)
    place = read(db, world).place
    with pytest.raises(GoneError, match="the database was restored, and this place was in another feed"):
        read(db, world, Place(place.position, 0, place.at + 1))
    with pytest.raises(GoneError, match="the database was restored, and this place is not in its feed"):
        read(db, world, Place(place.position + 1, 0, place.at))


def test_events_whose_job_was_deleted_are_missed_and_not_skipped(
    db: Database, world: World, environment: Settings
) -> None:
    ids = [withdraw(db, world, environment)[0] for _ in range(3)]
    first = Place.parse(read(db, world).events[0].cursor)
    world.force("DELETE FROM withdrawals.outcomes WHERE enrolment_id = :i", i=ids[1])
    with pytest.raises(GoneError, match="part of what follows this place was deleted with its job"):
        read(db, world, first)


def test_who_starts_over_goes_on_after_an_oldest_entry_whose_job_was_pruned(
    db: Database, world: World, environment: Settings
) -> None:
    """The last old entry is kept as a place for as long as nothing happens, and jobs are not."""
    for _ in range(2):
        (gone,) = withdraw(db, world, environment)
        world.force("DELETE FROM withdrawals.outcomes WHERE enrolment_id = :i", i=gone)
    page = read(db, world)
    assert (subjects(page), page.more) == ([], False)
    ids = withdraw(db, world, environment)
    assert subjects(read(db, world, page.place)) == ids
