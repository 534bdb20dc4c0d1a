"""Claims of small chunks, decided in one message, while somebody else acts on their jobs, people and enrolments.

The message locks, decides and ends jobs without anybody in between; what it waits for is what others hold. It is
stopped here at a lock that it has to wait for: of an enrolment before it decides, or in the platform's trigger while it
writes. Changes of the rows themselves and protections: `test_race_changed_meanwhile.py`, `test_race_protections.py`.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from tests.support.racing import (
    Hold,
    Threads,
    always_balanced,
    await_waiters,
    chunks,
    decide_small,
    held,
    hold_enrolments,
    job_state,
    leases_run_out,
    take,
    waiters,
    workers,
)
from tests.world import PATIENCE, World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.jobs import control
from worker.ledger import closing
from worker.queue.apply import apply_small
from worker.queue.broker import make_broker
from worker.queue.leftovers import Leftovers
from worker.queue.relay import Relay

KINDS = ["single requests", "deactivations"]


def ask(db: Database, world: World, what: str) -> tuple[list[int], list[int]]:
    """Two jobs of one claim, of anna and ben; their ids, and those of the enrolments."""
    ids = [world.enrolment(person) for person in ("anna", "ben")]
    if what == "deactivations":
        return [world.event(db, "deactivated", person).job_id or 0 for person in ("anna", "ben")], ids
    return [world.submit(db, [one]).id for one in ids], ids


def states(world: World, jobs: Sequence[int]) -> list[str]:
    return [job_state(world, job) for job in jobs]


@dataclass(frozen=True)
class Stop:
    """A block in which the message stops at an enrolment."""

    at: Callable[[int], AbstractContextManager[Hold]]
    decided: bool
    """Whether it has decided then, so that what follows comes after it."""


@pytest.fixture(params=["before it decides", "while it writes"])
def stopped(request: pytest.FixtureRequest, owner: Database, world: World) -> Stop:
    if request.param == "before it decides":
        return Stop(partial(hold_enrolments, owner), decided=False)
    world.run("""CREATE FUNCTION lms.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_advisory_xact_lock_shared(new.id); RETURN new; END $$""")
    world.run("CREATE TRIGGER slow BEFORE UPDATE OF status ON lms.enrolments FOR EACH ROW EXECUTE FUNCTION lms.slow()")
    return Stop(lambda one: held(owner, "SELECT pg_advisory_xact_lock(:one)", one=one), decided=True)


@pytest.mark.parametrize("what", KINDS)
def test_a_job_that_is_paused_meanwhile_is_handed_back_unless_it_was_decided(
    slow_db: Database, world: World, environment: Settings, threads: Threads, stopped: Stop, what: str
) -> None:
    """Its neighbour is decided in any case; and however it comes out, nothing of it is left behind after the resume."""
    (first, second), ids = ask(slow_db, world, what)
    act: dict[str, Any] = {"organisation_id": world.organisation_id, "job_id": first, "actor": "test:admin"}
    claim = take(slow_db)
    with stopped.at(ids[1]) as hold:
        deciding = threads.go(decide_small, slow_db, claim)
        await_waiters(world)
        pausing = threads.go(control.pause, slow_db, **act)
        eventually(lambda: pausing.done() or len(waiters(world)) == 2, what="it is paused, or waits")
        hold.release()
        deciding.result(PATIENCE)
        error = pausing.exception(PATIENCE)
    if stopped.decided:
        assert job_state(world, first) == "completed"
    else:
        assert (error, job_state(world, first)) == (None, "paused")
        assert chunks(world, first, "state, claims, attempts") == [("ready", 0, 0)]
        assert world.status(ids[0]) == "in_progress"
        control.resume(slow_db, **act)
    decide_due(slow_db, environment)
    assert states(world, [first, second]) == ["completed"] * 2
    assert {world.status(one) for one in ids} == {"withdrawn"}
    assert_balanced(slow_db)


@pytest.mark.parametrize("what", KINDS)
def test_a_job_that_is_cancelled_meanwhile_is_closed_or_counts_what_it_withdrew(
    slow_db: Database, world: World, environment: Settings, threads: Threads, stopped: Stop, what: str
) -> None:
    """The cancel passes over a chunk that is being decided; the relay closes it, or counts it, after both."""
    (first, second), ids = ask(slow_db, world, what)
    claim = take(slow_db)
    with stopped.at(ids[1]) as hold:
        deciding = threads.go(decide_small, slow_db, claim)
        await_waiters(world)
        cancelling = threads.go(
            control.cancel, slow_db, organisation_id=world.organisation_id, job_id=first, actor="test:admin"
        )
        eventually(lambda: cancelling.done() or len(waiters(world)) == 2, what="it is cancelled, or waits")
        hold.release()
        deciding.result(PATIENCE)
        cancelling.result(PATIENCE)
    with slow_db.begin() as connection:
        closing.close_cancelled(connection, [first])
    Leftovers(timedelta(seconds=30)).finish(slow_db)
    (chunk,) = chunks(world, first, "state")
    withdrawn = world.status(ids[0]) == "withdrawn"
    assert withdrawn == stopped.decided
    assert chunk.state == ("done" if withdrawn else "cancelled")
    assert job_state(world, first) in (("cancelled", "completed") if withdrawn else ("cancelled",))
    assert job_state(world, second) == "completed"
    assert not world.one("SELECT correct_due FROM withdrawals.jobs WHERE id = :id", id=first)
    assert world.one("SELECT sum(jobs) FROM withdrawals.brake_volume") == 1 + withdrawn
    assert_balanced(slow_db)


@pytest.mark.parametrize("again", [False, True])
def test_a_person_who_comes_back_meanwhile_is_not_withdrawn_or_was(
    slow_db: Database, world: World, environment: Settings, threads: Threads, stopped: Stop, again: bool
) -> None:
    """`again`: they leave once more. The event waits for the person, or the message for the event; no third way."""
    (first, second), ids = ask(slow_db, world, "deactivations")
    claim = take(slow_db)

    def event() -> None:
        world.event(slow_db, "reactivated", "anna")
        if again:
            world.event(slow_db, "deactivated", "anna")

    with stopped.at(ids[1]) as hold:
        deciding = threads.go(decide_small, slow_db, claim)
        await_waiters(world)
        coming = threads.go(event)
        await_waiters(world, 2)
        hold.release()
        deciding.result(PATIENCE)
        coming.result(PATIENCE)
    assert states(world, [first, second]) == ["completed"] * 2, "the message had the person's lock"
    assert (world.status(ids[0]), world.active("anna")) == ("withdrawn", not again)
    decide_due(slow_db, environment)
    assert_balanced(slow_db)


def test_a_person_whose_event_is_in_hand_is_left_to_the_event(
    slow_db: Database, world: World, environment: Settings, threads: Threads
) -> None:
    """The event, by which they leave a second time, has the person; the message waits, and finds another epoch."""
    (first, second), ids = ask(slow_db, world, "deactivations")
    claim = take(slow_db)
    with held(world.owner, "SELECT 1 FROM withdrawals.persons WHERE external_id = 'anna' FOR UPDATE") as hold:
        deciding = threads.go(decide_small, slow_db, claim)
        await_waiters(world)
        hold.run("UPDATE withdrawals.persons SET epoch = epoch + 1 WHERE external_id = 'anna'")
        hold.release()
        deciding.result(PATIENCE)
    assert states(world, [first, second]) == ["superseded", "completed"]
    assert world.status(ids[0]) == "in_progress"


@pytest.mark.parametrize("what", KINDS)
def test_a_claim_that_was_taken_over_while_its_message_waited_for_the_chunk_is_the_successor_s(
    slow_db: Database, world: World, environment: Settings, threads: Threads, what: str
) -> None:
    """The message comes late and waits for the chunks, which the takeover has; then none is its own any more."""
    jobs, ids = ask(slow_db, world, what)
    claim = take(slow_db)
    leases_run_out(world)
    with held(world.owner, "SELECT 1 FROM withdrawals.chunks FOR UPDATE") as hold:
        late = threads.go(slow_db.run, lambda connection: apply_small(connection, claim), autocommit=True)
        await_waiters(world)
        hold.run("UPDATE withdrawals.chunks SET state = 'ready', lease_until = NULL, alone = true")
        hold.release()
        assert late.result(PATIENCE).decided == []
    assert {world.status(one) for one in ids} == {"in_progress"}
    decide_due(slow_db, environment)
    assert states(world, jobs) == ["completed"] * 2
    assert_balanced(slow_db)


@pytest.mark.parametrize("what", KINDS)
def test_a_job_that_the_message_passed_over_is_ended_by_the_sweep_when_its_worker_dies(
    slow_db: Database, owner: Database, world: World, environment: Settings, what: str
) -> None:
    """Somebody was changing it; the worker died before it could end it, and nothing is due that could wake another."""
    (first, second), _ = ask(slow_db, world, what)
    broker = make_broker(environment.broker_url.get_secret_value())
    relay = Relay(slow_db, broker, environment)
    relay.sweep()
    claim = take(slow_db)
    with held(owner, "SELECT 1 FROM withdrawals.jobs WHERE id = :id FOR UPDATE", id=first):
        slow_db.run(lambda connection: apply_small(connection, claim), autocommit=True)
        assert states(world, [first, second]) == ["queued", "completed"]
    relay.steps.take_all()
    relay.sweep(ask=True)
    assert states(world, [first, second]) == ["completed"] * 2
    broker.close()
    broker.client.close()
    assert_balanced(slow_db)


def test_two_claims_that_name_the_same_enrolments_in_other_orders_withdraw_each_once(
    slow_db: Database, world: World, patient: Settings, threads: Threads, withdrawals: Callable[[], Counter[int]]
) -> None:
    """Many workers, single requests and small lists about the same few enrolments, by way of messages."""
    ids = world.enrolments(12)
    order = random.Random(11)
    wanted = [order.sample(ids, order.choice([1, 1, 1, 2, 4])) for _ in range(60)]
    settings = patient.model_copy(update={"chunk_size": 20})
    with workers(slow_db, settings, 4), always_balanced(slow_db):
        parts = [wanted[n::4] for n in range(4)]
        made = threads.together(*[lambda p=p: [world.submit(slow_db, one).id for one in p] for p in parts])
        jobs = [job for part in made if not isinstance(part, Exception) for job in part]
        assert len(jobs) == len(wanted), made
        eventually(lambda: set(states(world, jobs)) == {"completed"}, what="all jobs completed")
    assert withdrawals() == dict.fromkeys({one for sample in wanted for one in sample}, 1)
    assert not world.run("SELECT FROM withdrawals.attempts"), "no deadlock, no lock that was waited for in vain"
