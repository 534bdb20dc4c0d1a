"""The chunks of a paused job wait with it, and a chunk waits for its next attempt, where no claim meets them.

What a claim must not read stands apart in the index: `test_costs.py` counts that. Here nothing of it gets lost.
"""

import pytest

from tests.support.due import count_due
from tests.support.racing import Threads, await_waiters, chunks, decide, held, job_state, take
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.jobs import control
from worker.queue import recovery


def act(db: Database, world: World, job_id: int, what: str) -> None:
    getattr(control, what)(db, organisation_id=world.organisation_id, job_id=job_id, actor="test:admin")


def fail_once(db: Database, world: World, settings: Settings) -> None:
    """An attempt that failed; the next is due in an hour."""
    recovery.record_failure(db, settings, take(db), RuntimeError("a defect"))
    world.run("UPDATE withdrawals.chunks SET run_after = now() + interval '1 hour' WHERE state = 'ready'")


def test_chunks_wait_while_their_job_is_paused_and_are_due_again_when_it_goes_on(
    db: Database, world: World, environment: Settings
) -> None:
    ids = world.enrolments(6)
    job = world.submit(db, ids, chunk_size=2)
    decide(db, take(db, budget=2))
    world.run("UPDATE withdrawals.chunks SET run_after = now() - interval '1 hour' WHERE state = 'ready'")
    act(db, world, job.id, "pause")
    assert chunks(world, job.id) == [("done",), ("waiting",), ("waiting",)]
    assert_balanced(db)
    act(db, world, job.id, "resume")
    assert chunks(world, job.id) == [("done",), ("ready",), ("ready",)]
    assert not world.one(
        "SELECT count(*) FROM withdrawals.chunks WHERE state = 'ready' AND run_after < now() - interval '1 minute'"
    ), "a job that was paused for an hour has not waited for a worker for an hour"
    decide_due(db, environment)
    assert world.outcomes(job.id) == dict.fromkeys(ids, "withdrawn")
    assert_balanced(db)


def test_a_chunk_claimed_at_the_pause_is_given_back_and_done_after_the_resume(
    db: Database, world: World, environment: Settings
) -> None:
    job = world.submit(db, world.enrolments(4), chunk_size=2)
    claim = take(db, budget=2)
    act(db, world, job.id, "pause")
    decide(db, claim)
    assert chunks(world, job.id) == [("ready",), ("waiting",)]
    decide_due(db, environment)
    assert chunks(world, job.id) == [("ready",), ("waiting",)], "a claim reads the job's state"
    act(db, world, job.id, "resume")
    decide_due(db, environment)
    assert job_state(world, job.id) == "completed"
    assert_balanced(db)


def test_a_pause_waits_for_no_locked_chunk_and_a_resume_leaves_none_behind(
    db: Database, owner: Database, world: World, environment: Settings, threads: Threads
) -> None:
    job = world.submit(db, world.enrolments(4), chunk_size=2)
    with held(owner, "SELECT 1 FROM withdrawals.chunks WHERE number = 0 FOR UPDATE"):
        act(db, world, job.id, "pause")
    assert chunks(world, job.id) == [("ready",), ("waiting",)]
    with held(owner, "SELECT 1 FROM withdrawals.chunks WHERE number = 1 FOR UPDATE") as hold:
        resuming = threads.go(act, db, world, job.id, "resume")
        await_waiters(world)
        hold.release()
        resuming.result(60)
    assert chunks(world, job.id) == [("ready",), ("ready",)]
    decide_due(db, environment)
    assert job_state(world, job.id) == "completed"
    assert_balanced(db)


@pytest.mark.parametrize("paused", [False, True])
def test_a_chunk_is_claimed_when_the_time_of_its_next_attempt_has_come_not_before(
    db: Database, world: World, environment: Settings, paused: bool
) -> None:
    job = world.submit(db, world.enrolments(2))
    fail_once(db, world, environment)
    if paused:
        act(db, world, job.id, "pause")
        act(db, world, job.id, "resume")
    assert chunks(world, job.id, "state, deferred, attempts") == [("ready", True, 1)]
    decide_due(db, environment)
    assert chunks(world, job.id) == [("ready",)]
    with db.begin() as connection:
        assert count_due(connection, most=10) == 0
    world.run("UPDATE withdrawals.chunks SET run_after = now()")
    with db.begin() as connection:
        assert count_due(connection, most=10) == 1
    decide_due(db, environment)
    assert job_state(world, job.id) == "completed"
    assert_balanced(db)


def test_a_drain_finds_what_has_become_due_without_a_relay(db: Database, world: World, environment: Settings) -> None:
    job = world.submit(db, world.enrolments(2))
    fail_once(db, world, environment)
    world.run("UPDATE withdrawals.chunks SET run_after = now()")
    decide_due(db, environment)
    assert job_state(world, job.id) == "completed"
