"""A worker that is late, against the one that took its place.

DESIGN.md §2: "Takeover uses `SKIP LOCKED`, so a running transaction is never robbed"; "First take the chunk by id
*and* token `FOR UPDATE` (no row → stop)"; "After a lost connection the retry starts again at the token check: a
chunk found done is success."
"""

from collections import Counter
from collections.abc import Callable

import pytest

from tests.support.racing import (
    Threads,
    await_waiters,
    chunks,
    decide,
    hold_enrolments,
    job_state,
    leases_run_out,
    take,
    waiters,
    written,
)
from tests.world import PATIENCE, World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies
from worker.ledger import claimed
from worker.queue import recovery
from worker.queue.drain import Drain


def test_a_running_transaction_is_not_taken_over(
    slow_db: Database, owner: Database, world: World, patient: Settings, threads: Threads
) -> None:
    """Its lease is over, but its chunk is locked: the takeover passes by, and the late worker commits."""
    ids = world.enrolments(3)
    job = world.submit(slow_db, ids)
    claim = take(slow_db)
    leases_run_out(world)
    with hold_enrolments(owner, ids[1]) as hold:
        late = threads.go(decide, slow_db, claim)
        await_waiters(world)
        assert recovery.take_over(slow_db, patient) == 1
        assert chunks(world, job.id, "state, token, claims") == [("claimed", claim.token, 1)]
        hold.release()
        late.result(PATIENCE)
    assert world.outcomes(job.id) == dict.fromkeys(ids, "withdrawn")
    assert world.run("SELECT 1 FROM withdrawals.attempts") == []
    assert job_state(world, job.id) == "completed"
    assert_balanced(slow_db)


def test_a_running_attempt_at_a_letter_does_not_hold_up_the_takeover_of_others(
    db: Database,
    quick_db: Database,
    slow_db: Database,
    owner: Database,
    world: World,
    environment: Settings,
    threads: Threads,
) -> None:
    """It holds its letter, too: the takeover has to pass by that one as well, and reach what it can."""
    owned = world.enrolment(pathway_id=world.pathway())
    first = world.submit(db, [owned])
    decide_due(db, environment)
    (letter,) = world.letters()
    remedies.redrive(db, organisation_id=world.organisation_id, letter_ids=[letter.id], actor="test:support")
    running = take(db)
    others = [world.submit(db, world.enrolments(1)) for _ in range(5)]
    for _ in others:
        take(db, budget=1)
    leases_run_out(world)
    with hold_enrolments(owner, owned) as hold:
        late = threads.go(decide, slow_db, running)
        await_waiters(world)
        assert recovery.take_over(quick_db, environment) == 1 + len(others)
        assert [chunks(world, job.id, "state, claims") for job in others] == [[("ready", 1)]] * len(others)
        hold.release()
        late.result(PATIENCE)
    assert world.outcomes(first.id) == {owned: "pathway_owned"}
    decide_due(db, environment)
    assert {job_state(world, job.id) for job in others} == {"completed"}
    assert_balanced(db)


@pytest.mark.parametrize("successor", ["has claimed it", "has decided it", "has not come yet"])
def test_a_worker_that_comes_after_the_takeover_writes_nothing(
    db: Database, world: World, environment: Settings, successor: str
) -> None:
    """Its token is no longer the chunk's: no row at the token check, neither for its decision nor for its error."""
    ids = world.enrolments(3)
    job = world.submit(db, ids)
    slow = take(db)
    leases_run_out(world)
    assert recovery.take_over(db, environment) == 1
    fresh = take(db) if successor != "has not come yet" else None
    if fresh and successor == "has decided it":
        decide(db, fresh)
    before = written(world)
    applied = decide(db, slow)
    assert applied.decided == []
    assert applied.job_ids == set()
    recovery.record_failure(db, environment, slow, RuntimeError("too late"))
    db.run(lambda connection: claimed.give_back(connection, slow.chunk_ids, slow.token))
    assert written(world) == before
    if fresh and successor == "has claimed it":
        decide(db, fresh)
    decide_due(db, environment)
    assert world.outcomes(job.id) == dict.fromkeys(ids, "withdrawn")
    assert job_state(world, job.id) == "completed"
    assert_balanced(db)


def test_a_takeover_and_a_late_worker_at_the_same_moment_leave_one_decision(
    db: Database, world: World, environment: Settings, threads: Threads, withdrawals: Callable[[], Counter[int]]
) -> None:
    """Whoever gets the chunk's lock first has it; twenty times over."""
    made = []
    for _ in range(20):
        ids = world.enrolments(2)
        made.append((world.submit(db, ids).id, ids))
        claim = take(db)
        leases_run_out(world)
        late = threads.go(decide, db, claim)
        taking = threads.go(recovery.take_over, db, environment)
        late.result(PATIENCE)
        taking.result(PATIENCE)
    decide_due(db, environment)
    for job_id, ids in made:
        assert world.outcomes(job_id) == dict.fromkeys(ids, "withdrawn")
        assert job_state(world, job_id) == "completed"
    assert withdrawals() == {enrolment_id: 1 for _, ids in made for enrolment_id in ids}
    assert_balanced(db)


def test_a_worker_whose_session_is_ended_while_it_waits_tries_again_at_once(
    slow_db: Database, owner: Database, world: World, patient: Settings, threads: Threads
) -> None:
    """An administrator's `pg_terminate_backend` rolls back; the same attempt goes on and nothing counts as failed."""
    ids = world.enrolments(3)
    job = world.submit(slow_db, ids)
    with hold_enrolments(owner, ids[0]) as hold:
        work = threads.go(Drain(slow_db, patient).run)
        await_waiters(world)
        (ended,) = waiters(world)
        world.run("SELECT pg_terminate_backend(:pid)", pid=ended)
        # By its number: the worker asks again at once, so nobody may ever see that nobody waits.
        eventually(lambda: waiters(world) not in ([], [ended]), what="the worker waits in another session")
        hold.release()
        assert work.result(PATIENCE) == 1
    assert world.outcomes(job.id) == dict.fromkeys(ids, "withdrawn")
    assert world.run("SELECT 1 FROM withdrawals.attempts") == []
    assert_balanced(slow_db)
