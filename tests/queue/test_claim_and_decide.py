"""A claim and the decision of what is plain in it are one message in two transactions: the claim is on record first."""

import pytest
import sqlalchemy.exc

from tests.support import failpoints
from tests.support.costs import counting
from tests.support.failpoints import armed
from tests.support.racing import chunks, due_now, hold_enrolments, job_state
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database, driver
from worker.ledger.claims import NAMED
from worker.one_message import Step, at_once
from worker.queue.drain import Drain


def test_a_single_request_is_claimed_and_decided_in_one_message(
    db: Database, world: World, environment: Settings
) -> None:
    job = world.submit(db, world.enrolments(1))
    drain = Drain(db, environment)
    with counting(db) as costs:
        assert drain.run() == 1
    assert job_state(world, job.id) == "completed"
    assert costs.commits == 1, "as far as messages are counted"
    assert chunks(world, job.id, "state, claims, token IS NOT NULL") == [("done", 1, True)]
    assert_balanced(db)


def test_the_claim_has_committed_when_the_decision_fails(
    db: Database, quick_db: Database, owner: Database, world: World, environment: Settings
) -> None:
    """The decision waits for a lock in vain. Its claim is found by its token, and the attempt put on record."""
    (one,) = world.enrolments(1)
    job = world.submit(db, [one])
    with hold_enrolments(owner, one):
        Drain(quick_db, environment.model_copy(update={"backoff_seconds": 3600.0})).run()
    assert [tuple(row) for row in world.run("SELECT result, error_class FROM withdrawals.attempts")] == [
        ("failed", "LockNotAvailable")
    ]
    assert chunks(world, job.id, "state, claims, alone") == [("ready", 0, True)]
    due_now(world)
    decide_due(db, environment)
    assert job_state(world, job.id) == "completed"
    assert_balanced(db)


@pytest.mark.parametrize("special", [False, True], ids=["a plain one", "one of a pathway"])
def test_a_claim_whose_answer_was_lost_is_found_by_its_token(
    db: Database, world: World, environment: Settings, special: bool
) -> None:
    """What was decided with it is done; the rest goes on at once, and does not lie until its lease runs out."""
    job = world.submit(db, [world.enrolment(pathway_id=world.pathway() if special else None)])
    with armed("claims.claim_now:after", failpoints.lose_connection) as lost:
        Drain(db, environment).run()
    assert lost.fired.is_set()
    assert job_state(world, job.id) == ("completed_with_exceptions" if special else "completed")
    assert chunks(world, job.id, "state, claims") == [("done", 1)]
    assert_balanced(db)


def test_a_claim_that_was_not_made_is_no_attempt(db: Database, world: World, environment: Settings) -> None:
    job = world.submit(db, world.enrolments(1))
    with armed("claims.claim_now:before", failpoints.row_error), pytest.raises(sqlalchemy.exc.DBAPIError):
        Drain(db, environment).run()
    assert chunks(world, job.id, "state, claims") == [("ready", 0)]
    assert not world.run("SELECT FROM withdrawals.attempts")


def test_what_another_claim_left_in_the_session_is_not_decided(
    db: Database, world: World, environment: Settings
) -> None:
    """A claim of persons leaves no chunks behind, and one that finds nothing leaves what was there."""
    first = world.submit(db, world.enrolments(1))
    drain = Drain(db, environment)
    drain.run()
    world.force("UPDATE withdrawals.chunks SET token = gen_random_uuid(), state = 'claimed', closed_at = NULL,"
                " lease_until = now() + interval '1 hour'")  # fmt: skip
    drain.run()
    assert chunks(world, first.id) == [("claimed",)], "it is somebody else's"


def test_a_setting_that_a_failed_message_has_made_is_no_value(db: Database) -> None:
    """PostgreSQL keeps it, empty: without this a session whose first claim failed could fail at each later one."""
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        reads = Step("reads", "SELECT CAST(:ids AS bigint[])"), {"ids": NAMED}
        assert at_once(connection, reads) == [[(None,)]]
        driver(connection).execute(f"BEGIN; SELECT set_config('{NAMED.name}', '{{1}}', false); ROLLBACK")
        assert at_once(connection, reads) == [[(None,)]]
        driver(connection).execute(f"SELECT set_config('{NAMED.name}', '{{1}}', false)")
        assert at_once(connection, reads) == [[([1],)]]
