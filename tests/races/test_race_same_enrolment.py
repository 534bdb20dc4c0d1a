"""One enrolment, several jobs: it is withdrawn once, and every job says what happened.

DESIGN.md §2: "when two of them name the same enrolment, the earlier accepted one withdraws, the later gets
`already_withdrawn`"; rule 9: "Already withdrawn is success and keeps the first reason, time and actor."
"""

import random
from collections import Counter
from collections.abc import Callable

from tests.support.racing import (
    Threads,
    always_balanced,
    await_waiters,
    decide,
    hold_enrolments,
    job_state,
    take,
    workers,
)
from tests.world import PATIENCE, World, assert_balanced, eventually
from worker.config import Settings
from worker.database import Database
from worker.queue.drain import Drain


def test_of_two_jobs_decided_together_the_earlier_accepted_withdraws(
    db: Database, world: World, withdrawals: Callable[[], Counter[int]]
) -> None:
    """One claim of both chunks; the later job has the other reason, which is not written."""
    shared, own = world.enrolments(2)
    earlier = world.submit(db, [shared], reason="learner_declined")
    later = world.submit(db, [shared, own], reason="not_required")
    claim = take(db)
    assert len(claim.chunk_ids) == 2
    decide(db, claim)
    assert world.outcomes(earlier.id) == {shared: "withdrawn"}
    assert world.outcomes(later.id) == {shared: "already_withdrawn", own: "withdrawn"}
    assert world.one("SELECT withdrawal_reason FROM lms.enrolments WHERE id = :id", id=shared) == "learner_declined"
    assert {job_state(world, earlier.id), job_state(world, later.id)} == {"completed"}
    assert withdrawals() == {shared: 1, own: 1}
    assert_balanced(db)


def test_of_two_workers_that_decide_one_enrolment_at_once_exactly_one_withdraws_it(
    slow_db: Database, owner: Database, world: World, patient: Settings, threads: Threads
) -> None:
    """Two claims, both stopped at the same row; the second sees what the first wrote, not its old snapshot."""
    one_by_one = patient.model_copy(update={"chunk_size": 1})
    for _ in range(6):
        (shared,) = world.enrolments(1)
        jobs = [world.submit(slow_db, [shared]).id for _ in range(2)]
        with hold_enrolments(owner, shared) as hold:
            both = [threads.go(Drain(slow_db, one_by_one).run) for _ in jobs]
            await_waiters(world, 2)
            hold.release()
            assert [future.result(PATIENCE) for future in both] == [1, 1]
        outcomes = [world.outcomes(job)[shared] for job in jobs]
        assert sorted(outcomes) == ["already_withdrawn", "withdrawn"]
        assert {job_state(world, job) for job in jobs} == {"completed"}
    assert_balanced(slow_db)


def test_many_workers_on_overlapping_jobs_withdraw_each_enrolment_once(
    slow_db: Database, world: World, patient: Settings, threads: Threads, withdrawals: Callable[[], Counter[int]]
) -> None:
    """Twelve jobs over the same forty enrolments in any order, six workers, the books open all the while."""
    ids = world.enrolments(40)
    order = random.Random(7)
    wanted = [order.sample(ids, 25) for _ in range(12)]
    settings = patient.model_copy(update={"chunk_size": 10})
    with workers(slow_db, settings, 6), always_balanced(slow_db):
        submitted = threads.together(*[lambda w=w: world.submit(slow_db, w, chunk_size=5) for w in wanted])
        jobs = [job for job in submitted if not isinstance(job, Exception)]
        assert len(jobs) == len(wanted)
        eventually(lambda: all(job_state(world, job.id) == "completed" for job in jobs), what="all jobs completed")
    asked = {enrolment_id for sample in wanted for enrolment_id in sample}
    assert withdrawals() == dict.fromkeys(asked, 1)
    outcomes = Counter(value for job in jobs for value in world.outcomes(job.id).values())
    assert outcomes == {"withdrawn": len(asked), "already_withdrawn": 12 * 25 - len(asked)}


def test_a_deactivation_and_a_list_decided_together_withdraw_once(
    db: Database, world: World, withdrawals: Callable[[], Counter[int]]
) -> None:
    """The list was accepted first; the deactivation finds the enrolment active and says what became of it."""
    shared, own = world.enrolment("anna"), world.enrolment("anna")
    listed = world.submit(db, [shared])
    left = world.event(db, "deactivated", "anna").job_id or 0
    claim = take(db)
    assert len(claim.chunk_ids) == 2
    decide(db, claim)
    assert world.outcomes(listed.id) == {shared: "withdrawn"}
    assert world.outcomes(left) == {shared: "already_withdrawn", own: "withdrawn"}
    assert not world.active("anna")
    assert {job_state(world, job) for job in (listed.id, left)} == {"completed"}
    assert withdrawals() == {shared: 1, own: 1}
    assert_balanced(db)


def test_a_deactivation_and_a_list_at_the_same_row_withdraw_once(
    slow_db: Database, owner: Database, world: World, patient: Settings, threads: Threads
) -> None:
    """Two workers, one row each waits for."""
    one_by_one = patient.model_copy(update={"chunk_size": 1})
    shared = world.enrolment("anna")
    listed = world.submit(slow_db, [shared]).id
    left = world.event(slow_db, "deactivated", "anna").job_id or 0
    with hold_enrolments(owner, shared) as hold:
        both = [threads.go(Drain(slow_db, one_by_one).run) for _ in range(2)]
        await_waiters(world, 2)
        hold.release()
        assert [future.result(PATIENCE) for future in both] == [1, 1]
    withdrawn_by = [job for job in (listed, left) if world.outcomes(job).get(shared) == "withdrawn"]
    assert len(withdrawn_by) == 1
    assert world.outcomes(listed)[shared] in ("withdrawn", "already_withdrawn")
    assert {job_state(world, job) for job in (listed, left)} == {"completed"}
    assert_balanced(slow_db)
