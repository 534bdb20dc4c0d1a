"""Two budgets of a chunk that fails: hours for what lies in the surroundings, a few attempts for all else.

Decision record 0019. The errors are made here, so nothing waits for a lock or an outage.
"""

from datetime import timedelta

import psycopg
import pytest

from tests.support.racing import chunks, due_now, take
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies
from worker.queue.recovery import record_failure

LOCKED = psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")
SHUT_DOWN = psycopg.errors.AdminShutdown("terminating connection due to administrator command")


def fail(db: Database, world: World, settings: Settings, error: Exception) -> None:
    due_now(world)
    record_failure(db, settings, take(db), error)


def tried_for(world: World, time: str) -> None:
    world.run("UPDATE withdrawals.chunks SET tried_for = CAST(:t AS interval)", t=time)


@pytest.mark.parametrize("error", [LOCKED, SHUT_DOWN])
def test_what_lies_in_the_surroundings_is_tried_again_long_after_six_attempts(
    db: Database, world: World, environment: Settings, error: Exception
) -> None:
    enrolment_id = world.enrolment()
    job = world.submit(db, [enrolment_id])
    for _ in range(3 * environment.max_attempts):
        fail(db, world, environment, error)
    assert chunks(world, job.id, "state, attempts, own_failures") == [("ready", 18, 0)]
    due_now(world)
    decide_due(db, environment)
    assert world.status(enrolment_id) == "withdrawn"
    assert_balanced(db)


def test_after_a_day_it_becomes_a_dead_letter_that_says_for_how_long_it_was_tried(
    db: Database, world: World, environment: Settings
) -> None:
    job = world.submit(db, [world.enrolment()])
    tried_for(world, "23 hours 59 minutes")
    fail(db, world, environment, LOCKED)
    assert world.letters() == []
    tried_for(world, "24 hours")
    fail(db, world, environment, LOCKED)
    (letter,) = world.letters()
    assert letter.code == "retries_exhausted"
    shown = remedies.document(remedies.show(db, organisation_id=world.organisation_id, letter_id=letter.id))
    assert "every attempt in 24 hours failed, the last with LockNotAvailable" in shown.diagnosis.sentence
    assert set(world.outcomes(job.id).values()) == {"failed"}
    assert_balanced(db)


def test_how_long_it_may_be_tried_is_a_setting(db: Database, world: World, environment: Settings) -> None:
    world.submit(db, [world.enrolment()])
    tried_for(world, "2 hours")
    fail(db, world, environment.model_copy(update={"retry_hours": 2.0}), LOCKED)
    assert [letter.code for letter in world.letters()] == ["retries_exhausted"]


def test_the_time_that_a_job_was_paused_or_waited_for_a_worker_does_not_count(
    db: Database, world: World, environment: Settings
) -> None:
    job = world.submit(db, [world.enrolment()])
    fail(db, world, environment, LOCKED)
    world.run(
        "UPDATE withdrawals.chunks SET created_at = now() - interval '9 days', run_after = now() - interval '9 d'"
    )
    record_failure(db, environment, take(db), LOCKED)
    ((state, tried),) = chunks(world, job.id, "state, tried_for")
    assert state == "ready"
    assert tried < timedelta(hours=1)


def test_the_halves_of_a_chunk_go_on_with_its_time_and_have_attempts_of_their_own(
    db: Database, world: World, environment: Settings
) -> None:
    job = world.submit(db, world.enrolments(2))
    fail(db, world, environment, SHUT_DOWN)
    tried_for(world, "30 hours")
    fail(db, world, environment, SHUT_DOWN)
    halves = chunks(world, job.id, "state, attempts, own_failures, tried_for >= interval '30 hours'")
    assert halves[1:] == [("ready", 0, 0, True)] * 2
    for _ in range(2):
        fail_one(db, world, environment)
    assert [letter.code for letter in world.letters()] == ["retries_exhausted"] * 2
    assert_balanced(db)


def fail_one(db: Database, world: World, settings: Settings) -> None:
    due_now(world)
    record_failure(db, settings, take(db, budget=1), SHUT_DOWN)


def test_an_unknown_error_is_given_up_after_a_few_attempts_of_its_own(
    db: Database, world: World, environment: Settings
) -> None:
    """An outage before it has not used them up."""
    job = world.submit(db, [world.enrolment()])
    for _ in range(2 * environment.max_attempts):
        fail(db, world, environment, SHUT_DOWN)
    for _ in range(environment.max_attempts - 1):
        fail(db, world, environment, KeyError("unknown"))
    assert chunks(world, job.id, "state, own_failures") == [("ready", environment.max_attempts - 1)]
    fail(db, world, environment, KeyError("unknown"))
    assert [letter.code for letter in world.letters()] == ["retries_exhausted"]
    assert_balanced(db)
