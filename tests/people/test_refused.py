"""Refused requests are counted for the page of their source, whatever the number of them costs nothing."""

from collections.abc import Mapping

import pytest
from sqlalchemy import Connection

from tests.world import World
from worker.config import Settings
from worker.database import Database
from worker.ledger import hr_sources as ledger
from worker.ledger.hr_sources import Refusal
from worker.people import hr_sources, refused, source_requests


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many refusals each write has counted; after the first one none is due before the connections are closed."""
    found = list[int]()

    def record(connection: Connection, counts: Mapping[tuple[int, Refusal], int]) -> None:
        record_refusals(connection, counts)
        found.append(sum(counts.values()))

    record_refusals = ledger.record_refusals
    monkeypatch.setattr(ledger, "record_refusals", record)
    monkeypatch.setattr(refused, "EVERY", 1e6)
    return found


def add_source(db: Database, environment: Settings, organisation_id: int) -> str:
    made = hr_sources.create(
        db, environment, organisation_id=organisation_id, name="workday", kind="okta", actor="test:owner"
    )
    return made.secret


def test_a_flood_of_refused_requests_is_written_at_most_once_a_second(
    environment: Settings, world: World, writes: list[int]
) -> None:
    door = Database(environment)
    add_source(door, environment, world.organisation_id)
    for _ in range(1_000):
        source_requests.authenticate(door, environment, kind="okta", called="workday", genuine=lambda _: False)
    door.close()
    assert len(writes) <= 2, "one at once, one for all that came while it waited"
    assert sum(writes) == 1_000
    assert world.run("SELECT refused_signature, refused_time FROM withdrawals.sources") == [(1_000, 0)]


def test_a_request_that_may_have_been_meant_for_several_organisations_is_counted_for_none(
    environment: Settings, world: World, writes: list[int]
) -> None:
    door = Database(environment)
    add_source(door, environment, world.organisation_id)
    add_source(door, environment, world.organisation("Globex"))
    source_requests.authenticate(door, environment, kind="okta", called="workday", genuine=lambda _: False)
    door.close()
    assert writes == []
