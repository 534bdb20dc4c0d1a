"""Cancel and pause against a stream of claims.

DESIGN.md §2: "Pause and cancel set the job's state, which the claim reads. Cancel … close every unfinished chunk with
`FOR UPDATE SKIP LOCKED`, claimed ones included: their token check then finds no row. A chunk whose transaction
is running commits; the sweep closes any that come back."
"""

import threading
from collections import Counter
from collections.abc import Callable
from itertools import count

import pytest

from tests.support.racing import (
    Threads,
    always_balanced,
    await_waiters,
    chunks,
    decide,
    hold_enrolments,
    job_state,
    nothing_is_due,
    running,
    take,
    waiters,
    workers,
)
from tests.world import PATIENCE, World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.jobs import control
from worker.jobs.show import show
from worker.ledger import claimed, closing
from worker.queue.broker import make_broker
from worker.queue.drain import Drain
from worker.queue.relay import Relay
from worker.records import Claim

WORKERS = 4
BEGUN = 60
"""Claims of a stream before it waits to be stopped: however slow the test is, it finds the stream in its middle."""


class Stream(Drain):
    """Claims, one chunk each, of which some are left when it is stopped; knows which began after that."""

    def __init__(self, db: Database, settings: Settings) -> None:
        super().__init__(db, settings.model_copy(update={"chunk_size": 1}))
        self.stopped = threading.Event()
        self.begun_after: list[int] = []
        self._begun = count()

    def _handle(self, claim: Claim, *, go_on: bool = False) -> Claim | None:
        if self.stopped.is_set():
            self.begun_after += claim.chunk_ids
        elif next(self._begun) >= BEGUN:
            assert self.stopped.wait(PATIENCE)
        return super()._handle(claim, go_on=go_on)

    def assert_stopped(self, world: World, job_id: int) -> None:
        """Of a job's chunks each worker has decided one at the most since, which it had claimed just before."""
        done = [chunk_id for chunk_id, state in chunks(world, job_id, "id, state") if state == "done"]
        assert len(set(done) & set(self.begun_after)) <= WORKERS


def _cancel(db: Database, world: World, job_id: int) -> None:
    control.cancel(db, organisation_id=world.organisation_id, job_id=job_id, actor="test:admin")


def _decided(world: World, job_id: int) -> int:
    return int(world.one("SELECT count(*) FROM withdrawals.outcomes WHERE job_id = :id", id=job_id))


def test_a_cancel_in_a_stream_of_claims_takes_effect_at_once(
    db: Database, world: World, environment: Settings, withdrawals: Callable[[], Counter[int]]
) -> None:
    """400 chunks, four workers, the books open all the while; another job goes on as if nothing was."""
    ids, others = world.enrolments(400), world.enrolments(50)
    job = world.submit(db, ids, chunk_size=1)
    other = world.submit(db, others, chunk_size=1)
    stream = Stream(db, environment)
    with always_balanced(db), running(stream, WORKERS):
        eventually(lambda: _decided(world, job.id) >= 10, what="the stream runs")
        _cancel(db, world, job.id)
        stream.stopped.set()
        assert job_state(world, job.id) == "cancelled"
        eventually(lambda: job_state(world, other.id) == "completed", what="the other job completed")
        eventually(lambda: nothing_is_due(db), what="nothing due")
    with db.begin() as connection:
        closing.close_cancelled(
            connection, [job.id]
        )  # the sweep, for a chunk that was locked at the cancel and came back
    stream.assert_stopped(world, job.id)
    states = Counter(state for (state,) in chunks(world, job.id))
    assert set(states) == {"done", "cancelled"}
    assert states["cancelled"] > 0
    shown = show(db, organisation_id=world.organisation_id, job_id=job.id)
    assert shown.outcomes == {"withdrawn": states["done"], "cancelled": states["cancelled"]}
    assert shown.in_flight == 0
    done = set(world.outcomes(job.id))
    assert withdrawals() == dict.fromkeys([*done, *others], 1)
    assert {world.status(enrolment_id) for enrolment_id in set(ids) - done} == {"in_progress"}
    assert_balanced(db)


def test_a_cancel_does_not_wait_for_a_chunk_that_is_being_decided(
    slow_db: Database, owner: Database, world: World, threads: Threads
) -> None:
    """The running one commits, a claimed one that has not begun finds no row, the rest is closed."""
    ids = world.enrolments(3)
    job = world.submit(slow_db, ids, chunk_size=1)
    begun, claimed = take(slow_db, budget=1), take(slow_db, budget=1)
    with hold_enrolments(owner, ids[0]) as hold:
        deciding = threads.go(decide, slow_db, begun)
        await_waiters(world)
        _cancel(slow_db, world, job.id)
        assert chunks(world, job.id) == [("claimed",), ("cancelled",), ("cancelled",)]
        assert decide(slow_db, claimed).decided == []
        assert_balanced(slow_db)
        hold.release()
        deciding.result(PATIENCE)
    assert world.outcomes(job.id) == {ids[0]: "withdrawn"}
    assert job_state(world, job.id) == "cancelled"
    assert_balanced(slow_db)


def test_a_chunk_that_failed_after_the_cancel_of_its_job_is_closed_at_once(
    db: Database, owner: Database, world: World, environment: Settings, threads: Threads
) -> None:
    """It was running when the job was cancelled, so the cancel passed it over."""
    ids = world.enrolments(2)
    job = world.submit(db, ids)
    with hold_enrolments(owner, ids[0]):
        working = threads.go(Drain(db, environment).run)
        await_waiters(world)
        _cancel(db, world, job.id)
        # As its timeout does: one that is short could be over before the cancel.
        world.run("SELECT pg_cancel_backend(pid) FROM unnest(CAST(:pids AS integer[])) pid", pids=waiters(world))
        assert working.result(PATIENCE) == 1
    assert chunks(world, job.id, "state, counts") == [("cancelled", {"cancelled": 2})]
    assert job_state(world, job.id) == "cancelled"
    assert_balanced(db)


@pytest.mark.parametrize("cancelled", ["now", "a day ago"])
def test_a_chunk_that_is_given_back_after_the_cancel_is_closed_by_the_sweep(
    db: Database, world: World, environment: Settings, cancelled: str
) -> None:
    """A relay that has run for a while finds it by the cancel, one that was down for a day by its first pass."""
    broker = make_broker(environment.broker_url.get_secret_value())
    relay = Relay(db, broker, environment)
    if cancelled == "now":
        relay.sweep()
    job = world.submit(db, world.enrolments(2))
    claim = take(db)
    with db.begin() as connection:
        claimed.lock(connection, claim)
        _cancel(db, world, job.id)
        claimed.give_back(connection, claim.chunk_ids, claim.token)
    assert chunks(world, job.id) == [("ready",)]
    if cancelled != "now":
        world.run("UPDATE withdrawals.jobs SET finished_at = finished_at - interval '1 day'")
    relay.sweep()
    broker.close()
    broker.client.close()
    assert chunks(world, job.id, "state, counts") == [("cancelled", {"cancelled": 2})]
    assert_balanced(db)


def test_two_concurrent_cancels_have_one_effect(db: Database, world: World, threads: Threads) -> None:
    """One act on record, both answered with the cancelled job."""
    job = world.submit(db, world.enrolments(10), chunk_size=1)
    results = threads.together(*[lambda: _cancel(db, world, job.id)] * 4)
    assert not [error for error in results if isinstance(error, Exception)]
    assert world.one("SELECT count(*) FROM withdrawals.audit WHERE action = 'job.cancel'") == 1
    assert {state for (state,) in chunks(world, job.id)} == {"cancelled"}
    assert_balanced(db)


def test_a_cancel_against_the_end_of_a_job_leaves_one_of_the_two(db: Database, world: World, threads: Threads) -> None:
    """Completed with all done, or cancelled; never both, and the books balance."""
    for _ in range(10):
        job = world.submit(db, world.enrolments(2))
        claim = take(db)
        deciding, cancelling = threads.go(decide, db, claim), threads.go(_cancel, db, world, job.id)
        deciding.result(PATIENCE)
        cancelling.result(PATIENCE)
        state, outcomes = job_state(world, job.id), list(world.outcomes(job.id).values())
        assert (state, outcomes) in [
            ("completed", ["withdrawn"] * 2),
            ("cancelled", ["withdrawn"] * 2),
            ("cancelled", []),
        ]
        assert_balanced(db)


@pytest.mark.parametrize("of_several", [False, True])
def test_a_paused_job_gets_its_claimed_chunks_back_with_the_claim_refunded(
    db: Database, world: World, environment: Settings, of_several: bool
) -> None:
    """Claimed before the pause, begun after it: handed back; whatever other job shares the claim is decided."""
    job = world.submit(db, world.enrolments(4), chunk_size=2)
    other = world.submit(db, world.enrolments(2)) if of_several else None
    claim = take(db, budget=1000)
    assert len(claim.chunk_ids) == (3 if of_several else 2)
    world.run("UPDATE withdrawals.jobs SET state = 'paused' WHERE id = :id", id=job.id)
    decide(db, claim)
    assert chunks(world, job.id, "state, claims, attempts") == [("ready", 0, 0)] * 2
    assert nothing_is_due(db)
    decide_due(db, environment)
    assert world.outcomes(job.id) == {}
    if other:
        assert job_state(world, other.id) == "completed"
    assert_balanced(db)
    world.run("UPDATE withdrawals.jobs SET state = 'queued' WHERE id = :id", id=job.id)
    decide_due(db, environment)
    assert job_state(world, job.id) == "completed"
    assert_balanced(db)


def test_a_pause_in_a_stream_of_claims_holds_until_the_resume(
    db: Database, world: World, environment: Settings
) -> None:
    """What was running commits; the rest waits, unclaimed and with nothing counted against it."""
    ids = world.enrolments(200)
    job = world.submit(db, ids, chunk_size=1)
    stream = Stream(db, environment)
    with always_balanced(db), running(stream, WORKERS):
        eventually(lambda: _decided(world, job.id) >= 10, what="the stream runs")
        world.run("UPDATE withdrawals.jobs SET state = 'paused' WHERE id = :id", id=job.id)
        stream.stopped.set()
        late = world.submit(db, world.enrolments(20), chunk_size=5)
        eventually(lambda: job_state(world, late.id) == "completed", what="a later job completed meanwhile")
        eventually(lambda: ("claimed",) not in chunks(world, job.id), what="no chunk claimed")
        left = world.run(
            "SELECT state, claims, attempts FROM withdrawals.chunks WHERE job_id = :id AND state <> 'done'", id=job.id
        )
        assert {(row.claims, row.attempts) for row in left} == {(0, 0)}
        assert {row.state for row in left} <= {"waiting", "ready"}, "ready: it was in a claim, and was given back"
        assert nothing_is_due(db)
        stream.assert_stopped(world, job.id)
        world.run("UPDATE withdrawals.jobs SET state = 'queued' WHERE id = :id", id=job.id)
        eventually(lambda: job_state(world, job.id) == "completed", what="the job completed")
    assert world.outcomes(job.id) == dict.fromkeys(ids, "withdrawn")
    assert_balanced(db)


def test_a_cancelled_job_lets_its_letters_be_redriven(db: Database, world: World, environment: Settings) -> None:
    """DESIGN.md §2: "Letter chunks stand outside the job's state, pause, cancel and the conservation formula."."""
    from worker.dead_letters import remedies

    owned = world.enrolment(pathway_id=world.pathway())
    job = world.submit(db, [owned, *world.enrolments(2)], chunk_size=1)
    decide(db, take(db, budget=1))
    _cancel(db, world, job.id)
    (letter,) = world.letters()
    world.run("UPDATE lms.enrolments SET pathway_id = NULL WHERE id = :id", id=owned)
    remedies.redrive(db, organisation_id=world.organisation_id, letter_ids=[letter.id], actor="test:support")
    with workers(db, environment, 2):
        eventually(lambda: world.outcomes(job.id) == {owned: "withdrawn"}, what="the letter's attempt")
    assert job_state(world, job.id) == "cancelled"
    assert [letter.state for letter in world.letters()] == ["resolved"]
    assert_balanced(db)


def test_the_halves_of_a_chunk_that_is_split_while_its_job_is_cancelled_are_closed(
    db: Database, world: World, environment: Settings
) -> None:
    """The parent is locked and cannot be closed; its halves appear in a cancelled job and are never claimed."""
    job = world.submit(db, world.enrolments(5))
    claim = take(db)
    with db.begin() as connection:
        (chunk,) = claimed.lock(connection, claim)
        assert claimed.split(connection, chunk, claim.token)
        _cancel(db, world, job.id)
    assert chunks(world, job.id, "state, size") == [("split", 5), ("ready", 2), ("ready", 3)]
    assert nothing_is_due(db)
    assert_balanced(db)
    with db.begin() as connection:
        closing.close_cancelled(connection, [job.id])
    assert chunks(world, job.id, "state, size") == [("split", 5), ("cancelled", 2), ("cancelled", 3)]
    shown = show(db, organisation_id=world.organisation_id, job_id=job.id)
    assert (shown.outcomes, shown.in_flight) == ({"cancelled": 5}, 0)
    assert_balanced(db)
