"""A reinstate against everything else that wants the same learner, enrolment or key at the same time.

DESIGN.md §2: "Decide only from rows you hold locked"; "a unique violation from a new enrolment that
slipped in is tried again and found as `enrolled_again`".
"""

from collections import Counter
from functools import partial
from typing import Any

from sqlalchemy import text

from schemas.reinstate import ReinstateRequest
from tests.support.racing import (
    Threads,
    always_balanced,
    await_waiters,
    decide,
    held,
    hold_enrolments,
    job_state,
    leases_run_out,
    take,
    workers,
    written,
)
from tests.world import PATIENCE, World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.jobs.reinstate import reinstate
from worker.ledger import reinstate as reinstating
from worker.queue import recovery
from worker.queue.apply import apply
from worker.queue.drain import Drain


def withdrawn(db: Database, world: World, settings: Settings, ids: list[int]) -> int:
    """A job that has withdrawn these."""
    job = world.submit(db, ids)
    decide_due(db, settings)
    return job.id


def back(db: Database, world: World, job_id: int, *, chunk_size: int = 1000) -> int:
    """A reinstate of a job, accepted."""
    return reinstate(db, world.requester(), job_id, ReinstateRequest(), chunk_size=chunk_size).job.id


def numbers(made: list[int | Exception]) -> list[int]:
    """The jobs that threads have made; an error of one of them comes up."""
    found = []
    for one in made:
        if isinstance(one, Exception):
            raise one
        found.append(one)
    return found


def ended(world: World, job_ids: list[int]) -> None:
    """Until all of these jobs have ended by themselves."""
    eventually(lambda: all(job_state(world, job_id).startswith("completed") for job_id in job_ids))


def rival(world: World, enrolment_id: int, status: str) -> int:
    """Another enrolment with the same learner, Series and pathway."""
    return int(
        world.one(
            """INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, pathway_id, status)
            SELECT organisation_id, learner_id, series_id, pathway_id, :s FROM lms.enrolments WHERE id = :i
            RETURNING id""",
            i=enrolment_id,
            s=status,
        )
    )


def test_an_enrolment_made_between_lock_and_write_is_found_without_a_failure(
    slow_db: Database, owner: Database, world: World, patient: Settings, threads: Threads
) -> None:
    """The platform's new row is not committed when the reinstate looks, and is when it writes: the index says so."""
    ids = world.enrolments(5)
    job = withdrawn(slow_db, world, patient, ids)
    ended = rival(world, ids[2], "incomplete")
    made = back(slow_db, world, job)
    with held(owner, "UPDATE lms.enrolments SET status = 'in_progress' WHERE id = :i", i=ended) as platform:
        working = threads.go(Drain(slow_db, patient).run)
        await_waiters(world)  # at the unique index, with everything decided
        platform.release()
        assert working.result(PATIENCE) == 1
    assert world.outcomes(made) == {**dict.fromkeys(ids, "reinstated"), ids[2]: "enrolled_again"}
    assert world.run("SELECT count(*) FROM withdrawals.attempts")[0][0] == 0
    assert world.run("SELECT state, attempts FROM withdrawals.chunks WHERE job_id = :j", j=made) == [("done", 0)]
    assert world.status(ids[2]) == "withdrawn"
    assert_balanced(slow_db)


def test_a_platform_that_keeps_enrolling_sends_the_chunk_to_support(
    db: Database, world: World, environment: Settings, monkeypatch: Any
) -> None:
    """As if every look came too early: tried some times, then an error of its row, with the letter that says so."""
    ids = world.enrolments(2)
    job = withdrawn(db, world, environment, ids)
    made = back(db, world, job)
    taken = rival(world, ids[0], "in_progress")
    blind = reinstating._DECIDE.text.replace("x.status IN", "false AND x.status IN")
    monkeypatch.setattr(reinstating, "_DECIDE", text(blind))
    with workers(db, environment, 1):
        eventually(lambda: job_state(world, made) == "completed_with_exceptions")
    assert world.outcomes(made) == {ids[0]: "failed", ids[1]: "reinstated"}
    assert world.status(taken) == "in_progress"
    assert_balanced(db)


def test_of_a_reinstate_and_a_new_enrolment_that_wait_for_each_other_one_goes_first(
    slow_db: Database, owner: Database, world: World, patient: Settings, threads: Threads
) -> None:
    """Each holds what the other needs: PostgreSQL ends one, and it is open which. There is one active enrolment."""
    (enrolment,) = world.enrolments(1)
    job = withdrawn(slow_db, world, patient, [enrolment])
    made = back(slow_db, world, job)
    with hold_enrolments(owner, enrolment) as hold:
        working = threads.go(Drain(slow_db, patient).run)
        await_waiters(world)
        enrolling = threads.go(rival, world, enrolment, "in_progress")
        await_waiters(world, 2)
        hold.release()
        assert working.result(PATIENCE) == 1
        refused = enrolling.exception(PATIENCE) is not None
    assert world.outcomes(made) == {enrolment: "reinstated" if refused else "enrolled_again"}
    assert world.one("SELECT count(*) FROM lms.enrolments WHERE status = 'in_progress'") == 1
    assert_balanced(slow_db)


def test_two_reinstates_of_one_job_put_each_enrolment_back_once(
    slow_db: Database, world: World, patient: Settings, threads: Threads
) -> None:
    """Different keys, small chunks, many workers, the books open all the while."""
    ids = world.enrolments(40)
    job = withdrawn(slow_db, world, patient, ids)
    settings = patient.model_copy(update={"chunk_size": 10})
    with workers(slow_db, settings, 4), always_balanced(slow_db):
        both = numbers(threads.together(*[lambda: back(slow_db, world, job, chunk_size=7)] * 2))
        ended(world, both)
    outcomes = Counter(value for made in both for value in world.outcomes(made).values())
    assert outcomes["reinstated"] == 40
    assert set(outcomes) <= {"reinstated", "changed_since"}
    assert {world.status(enrolment) for enrolment in ids} == {"in_progress"}


def test_two_reinstates_in_one_claim_put_an_enrolment_back_once(
    db: Database, world: World, environment: Settings
) -> None:
    """The earlier accepted does."""
    ids = world.enrolments(2)
    job = withdrawn(db, world, environment, ids)
    earlier, later = back(db, world, job), back(db, world, job)
    claim = take(db)
    assert len(claim.chunk_ids) == 2
    decide(db, claim)
    assert set(world.outcomes(earlier).values()) == {"reinstated"}
    assert set(world.outcomes(later).values()) == {"changed_since"}
    assert_balanced(db)


def test_of_two_jobs_enrolments_in_the_same_series_one_is_reinstated(
    db: Database, world: World, environment: Settings
) -> None:
    older = world.enrolment()
    first = withdrawn(db, world, environment, [older])
    newer = rival(world, older, "no_attempts")
    second = withdrawn(db, world, environment, [newer])
    made = [back(db, world, first), back(db, world, second)]
    decide(db, take(db))
    assert [world.outcomes(job) for job in made] == [{older: "enrolled_again"}, {newer: "reinstated"}]
    assert_balanced(db)


def test_an_undo_does_not_take_back_a_withdrawal_in_the_same_claim(
    db: Database, world: World, environment: Settings
) -> None:
    """Whichever was accepted first: one job's withdrawal is taken back, the other job withdraws."""
    for reinstate_first in (True, False):
        ids = world.enrolments(2)
        job = withdrawn(db, world, environment, ids)
        if reinstate_first:
            made, new = back(db, world, job), world.submit(db, ids, reason="learner_declined").id
        else:
            new, made = world.submit(db, ids, reason="learner_declined").id, back(db, world, job)
        claim = take(db)
        assert len(claim.chunk_ids) == 2
        decide(db, claim)
        assert set(world.outcomes(made).values()) == {"reinstated"}
        assert set(world.outcomes(new).values()) == {"withdrawn"}
        assert {job_state(world, made), job_state(world, new)} == {"completed"}
        assert_balanced(db)


def test_reinstates_and_withdrawals_of_the_same_enrolments_end_in_a_legal_way(
    slow_db: Database, world: World, patient: Settings, threads: Threads
) -> None:
    """Many of both at once: nothing is lost, nothing fails, the books are right at every look."""
    ids = world.enrolments(30)
    jobs = [withdrawn(slow_db, world, patient, ids)]
    settings = patient.model_copy(update={"chunk_size": 10})
    with workers(slow_db, settings, 4), always_balanced(slow_db):
        for _ in range(3):
            made = numbers(
                threads.together(
                    partial(back, slow_db, world, jobs[-1], chunk_size=4),
                    lambda: world.submit(slow_db, ids, chunk_size=5).id,
                    lambda: world.submit(slow_db, list(reversed(ids)), chunk_size=6).id,
                )
            )
            jobs += made
            ended(world, jobs)
    for job in jobs:
        assert "failed" not in world.outcomes(job).values()
    assert not world.letters()


def test_a_deactivation_at_the_same_learner_leaves_nobody_enrolled(
    slow_db: Database, owner: Database, world: World, patient: Settings, threads: Threads
) -> None:
    """Reinstated and withdrawn again, or not reinstated because inactive: either way withdrawn in the end."""
    settings = patient.model_copy(update={"chunk_size": 1})
    for number in range(4):
        enrolment = world.enrolment(f"anna{number}")
        job = withdrawn(slow_db, world, patient, [enrolment])
        made = back(slow_db, world, job)
        left = world.event(slow_db, "deactivated", f"anna{number}").job_id or 0
        with hold_enrolments(owner, enrolment) as hold:
            both = [threads.go(Drain(slow_db, settings).run) for _ in range(2)]
            await_waiters(world, 2)
            hold.release()
            for future in both:
                future.result(PATIENCE)
        ended(world, [made, left])
        assert world.outcomes(made)[enrolment] in ("reinstated", "learner_inactive")
        assert world.status(enrolment) == "withdrawn"
        assert not world.active(f"anna{number}")
    assert_balanced(slow_db)


def test_a_claim_that_vanished_before_or_after_its_decision_leaves_exact_counts(
    db: Database, world: World, environment: Settings
) -> None:
    """Died before: nothing is written. Died after the commit: found done, decided once."""
    ids = world.enrolments(6)
    job = withdrawn(db, world, environment, ids)
    made = back(db, world, job, chunk_size=3)
    claim = take(db, budget=3)
    before = written(world)
    with db.engine.connect() as connection:
        apply(connection, claim)
        connection.rollback()
    assert written(world) == before
    leases_run_out(world)
    recovery.take_over(db, environment)
    again = take(db, budget=3)
    db.run(lambda connection: apply(connection, again))  # and dies before it can say so
    done = written(world)
    db.run(lambda connection: apply(connection, again))
    db.run(lambda connection: apply(connection, claim))
    assert written(world) == done
    with workers(db, environment, 2):
        eventually(lambda: job_state(world, made) == "completed")
    assert world.outcomes(made) == dict.fromkeys(ids, "reinstated")
    assert_balanced(db)
