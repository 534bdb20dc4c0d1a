"""Of two workers that decide the last two chunks of a job, one ends it; and if neither can, the sweep does.

DESIGN.md §2: "Finishing is its own guarded statement after the chunk's commit, repeated by the sweep, so that
two workers that finish the last two chunks cannot leave a job running forever."
"""

import threading
from datetime import timedelta

import pytest
from sqlalchemy.exc import OperationalError

from tests.support.racing import Threads, await_waiters, decide, finish, held, hold_enrolments, job_state, take
from tests.world import PATIENCE, World, assert_balanced
from worker.config import Settings
from worker.database import Database
from worker.queue.apply import apply
from worker.queue.broker import make_broker
from worker.queue.drain import Drain
from worker.queue.leftovers import Leftovers
from worker.queue.relay import Relay
from worker.records import Claim


def test_two_workers_that_decide_the_last_two_chunks_at_once_end_the_job(
    slow_db: Database, owner: Database, world: World, patient: Settings, threads: Threads
) -> None:
    """Both wait for a row, both are let go at the same moment; no sweep helps."""
    one_by_one = patient.model_copy(update={"chunk_size": 1})
    for _ in range(8):
        ids = world.enrolments(2)
        job = world.submit(slow_db, ids, chunk_size=1)
        with hold_enrolments(owner, *ids) as hold:
            both = [threads.go(Drain(slow_db, one_by_one).run) for _ in ids]
            await_waiters(world, 2)
            hold.release()
            assert [future.result(PATIENCE) for future in both] == [1, 1]
        assert job_state(world, job.id) == "completed"
    assert_balanced(slow_db)


def test_two_workers_that_both_commit_before_either_finishes_end_the_job_once(
    slow_db: Database, world: World, threads: Threads
) -> None:
    """Both statements see all chunks done; the job's row lets one of them end it."""
    meet = threading.Barrier(2)

    def work(claim: Claim) -> list[tuple[int, str]]:
        applied = slow_db.run(lambda connection: apply(connection, claim))
        meet.wait(PATIENCE)
        return finish(slow_db, *applied.job_ids)

    for _ in range(8):
        job = world.submit(slow_db, world.enrolments(2), chunk_size=1)
        claims = [take(slow_db, budget=1), take(slow_db, budget=1)]
        ended = [threads.go(work, claim) for claim in claims]
        assert sorted(future.result(PATIENCE) for future in ended) == [[], [(job.id, "completed")]]
    assert_balanced(slow_db)


def test_a_worker_that_looks_before_the_other_commits_leaves_the_end_to_the_other(
    slow_db: Database, world: World
) -> None:
    """The first one's look is too early, and harmless."""
    job = world.submit(slow_db, world.enrolments(2), chunk_size=1)
    first, last = take(slow_db, budget=1), take(slow_db, budget=1)
    decide(slow_db, first)
    assert job_state(world, job.id) == "queued"
    decide(slow_db, last)
    assert job_state(world, job.id) == "completed"
    assert_balanced(slow_db)


@pytest.mark.parametrize("by", ["statement", "relay"])
def test_a_job_whose_last_worker_died_before_it_finished_is_ended_by_the_sweep(
    db: Database, world: World, environment: Settings, by: str
) -> None:
    """Killed between the commit of the last chunk and the next statement: nothing is due that could wake anyone."""
    job = world.submit(db, world.enrolments(2))
    claim = take(db)
    db.run(lambda connection: apply(connection, claim))
    assert job_state(world, job.id) == "queued"
    if by == "relay":
        broker = make_broker(environment.broker_url.get_secret_value())
        Relay(db, broker, environment).sweep()
        broker.close()
        broker.client.close()
    else:
        assert Leftovers(timedelta(seconds=30)).finish(db) == [(job.id, "completed")]
    assert job_state(world, job.id) == "completed"
    assert_balanced(db)


def test_a_job_that_cannot_be_finished_now_does_not_lose_the_next_claim(
    quick_db: Database, owner: Database, world: World, environment: Settings
) -> None:
    """The decision has claimed what comes next; the sweep finishes the job."""
    small = environment.model_copy(update={"chunk_size": 2})
    first, second = (world.submit(quick_db, world.enrolments(2), chunk_size=2) for _ in range(2))
    with held(owner, "SELECT 1 FROM withdrawals.jobs WHERE id = :id FOR UPDATE", id=first.id):
        assert Drain(quick_db, small).run() == 2
        assert [row[0] for row in world.run("SELECT state FROM withdrawals.chunks")] == ["done", "done"]
        assert (job_state(world, first.id), job_state(world, second.id)) == ("queued", "completed")
    assert Leftovers(timedelta(seconds=30)).finish(quick_db) == [(first.id, "completed")]
    assert job_state(world, first.id) == "completed"
    assert_balanced(quick_db)


def test_a_job_that_the_sweep_cannot_end_keeps_no_other_from_its_end(
    quick_db: Database, owner: Database, world: World
) -> None:
    """Its row is locked for longer than the sweep waits; the next round ends it."""
    first, second = (world.submit(quick_db, world.enrolments(1)) for _ in range(2))
    claim = take(quick_db)
    quick_db.run(lambda connection: apply(connection, claim))
    leftovers = Leftovers(timedelta(seconds=30))
    with held(owner, "SELECT 1 FROM withdrawals.jobs WHERE id = :id FOR UPDATE", id=first.id):
        with pytest.raises(OperationalError, match="lock timeout"):
            leftovers.finish(quick_db)
        assert (job_state(world, first.id), job_state(world, second.id)) == ("queued", "completed")
    assert leftovers.finish(quick_db) == [(first.id, "completed")]
    assert_balanced(quick_db)


def test_a_worker_that_stops_gives_back_what_it_has_claimed_and_not_begun(
    db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = environment.model_copy(update={"chunk_size": 2})
    for _ in range(2):
        world.submit(db, world.enrolments(2), chunk_size=2)
    drain = Drain(db, small)
    monkeypatch.setattr(drain, "_finish", lambda _: drain.stop())
    assert drain.run() == 1
    assert [tuple(row) for row in world.run("SELECT state, claims FROM withdrawals.chunks ORDER BY id")] == [
        ("done", 1), ("ready", 0),
    ]  # fmt: skip
