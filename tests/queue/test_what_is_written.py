"""What an event, a single request and a thousand enrolments of a bulk job cost: statements, rows, bytes of WAL.

Bounds that hold on any machine, with slack for another version of PostgreSQL. They are there to notice: one more index
on `outcomes` writes 64 bytes for each enrolment, one more statement is a round trip for each thousand.
"""

import itertools
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from schemas.jobs import JobRequest
from tests.support.costs import Costs, smallest
from tests.support.incoming import incoming, make_registered
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.jobs.submit import Requester, submit
from worker.people import inbox
from worker.queue import drain

pytestmark = pytest.mark.counts

THOUSANDS = 2
"""Of enrolments in each bulk job."""


@pytest.fixture(autouse=True)
def _vacuumed(world: World) -> None:
    """An earlier test of the same database may have left dead rows, which are read, too, and larger files."""
    with world.owner.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM"))


@pytest.fixture
def numbers() -> Iterator[int]:
    return itertools.count(1)


def assert_within(costs: Costs, per: float, *, statements: float, written: float, read: float, wal: float) -> None:
    """Compare costs with what each of so many may cost."""
    found = {
        "statements": len(costs.statements) / per,
        "rows written": costs.rows_written / per,
        "rows and index entries read": costs.rows_read / per,
        "bytes of WAL": costs.wal / per,
    }
    allowed = dict(zip(found, (statements, written, read, wal), strict=True))
    assert costs.commits and costs.rows_written > 0 and costs.wal > 0, f"nothing was measured: {costs}"
    assert {what: cost for what, cost in found.items() if cost > allowed[what]} == {}, (found, allowed)


def test_a_thousand_enrolments_of_a_bulk_job(
    db: Database, environment: Settings, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows for each: the enrolment and its outcome. The commit and what a job costs once are in it.

    Each enrolment is read four times: to count the learners at admission, to see that it is plain, to withdraw it, and
    to count again at the end, when the index still has its old version, too. The last statement of a chunk looks
    whether anything of it was protected meanwhile. Two statements, once a run, are in the message of its first claim:
    what decides small chunks, and finds none.
    """
    monkeypatch.setattr(drain, "INBOX_EVERY", 3600)  # on a slow machine each chunk would be followed by a look
    given = iter([world.enrolments(THOUSANDS * 1000) for _ in range(4)])
    with world.owner.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))  # an earlier test of the same database may have left dead rows

    def act() -> None:
        world.submit(db, next(given))
        decide_due(db, environment)

    costs = smallest(db, act)
    assert world.one("SELECT count(*) FROM withdrawals.outcomes WHERE outcome = 'withdrawn'") == 4 * THOUSANDS * 1000
    assert_within(costs, THOUSANDS, statements=13.5, written=2_010, read=6_600, wal=790_000)
    assert_balanced(db)


def test_a_single_request_and_its_withdrawal(
    db: Database, environment: Settings, world: World, numbers: Iterator[int]
) -> None:
    """One row of them is the entry of the feed: the claim has one, however many singles it decides."""
    ids = iter(world.enrolments(8))

    def act() -> None:
        requester = Requester(world.organisation_id, "test:one", "api", f"single-{next(numbers)}")
        submit(db, requester, JobRequest(reason="not_required", enrolment_ids=[next(ids)]))
        decide_due(db, environment)

    found = smallest(db, act, times=8)
    assert_within(found, 1, statements=9, written=11, read=24, wal=4_800)
    assert found.commits <= 2, "one message accepts, and one claims and decides"


def test_single_requests_that_are_decided_in_a_set(db: Database, environment: Settings, world: World) -> None:
    """Of each what follows the accept: its chunk is claimed and closed, its enrolment withdrawn, its job ended."""
    many = 100
    ids = iter(world.enrolments(4 * many))
    world.run("UPDATE withdrawals.organisation_settings SET brake_floor = 1000000")

    def accept() -> None:
        for _ in range(many):
            world.submit(db, [next(ids)])

    found = smallest(db, lambda: decide_due(db, environment), before=accept)
    assert_within(found, many, statements=0.08, written=5.1, read=20, wal=2_900)
    assert_balanced(db)


def test_an_event_at_the_door(db: Database, environment: Settings, world: World, numbers: Iterator[int]) -> None:
    source = make_registered(db, environment, world.organisation_id)

    def act() -> None:
        inbox.receive(db, source, incoming(f"person-{next(numbers)}"))

    assert_within(smallest(db, act), 1, statements=1, written=1, read=4, wal=700)


def test_an_event_that_is_applied_in_a_set_and_its_withdrawal(
    db: Database, environment: Settings, world: World, numbers: Iterator[int]
) -> None:
    many = 100
    source = make_registered(db, environment, world.organisation_id)
    world.run("UPDATE withdrawals.organisation_settings SET brake_floor = 1000000")
    world.enrolments(4 * many)
    people = iter(world.run("SELECT external_id FROM lms.learners ORDER BY id"))

    def act() -> None:
        for _ in range(many):
            inbox.receive(db, source, incoming(next(people)[0]))
        decide_due(db, environment)

    assert_within(smallest(db, act), many, statements=1.5, written=14.5, read=150, wal=8_300)
