"""The brake, and people who act on one job at once.

"Under the lock of the organisation's settings row so that two at once cannot both slip through"; "Two
approvers at once, pause against finish, cancel against claim … results always one of the legal ones."
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from schemas.brake import LimitProposal, LimitRequest
from schemas.catalogue import JobState
from schemas.control import BrakeSetting
from schemas.job_filter import ReleaseFilter
from schemas.reinstate import ReinstateFilter, ReinstateRequest
from tests.support.racing import (
    Threads,
    await_waiters,
    chunks,
    decide,
    finish,
    held,
    job_state,
    nothing_is_due,
    take,
    workers,
)
from tests.world import PATIENCE, World, assert_balanced, decide_due, eventually
from worker.access.persons import Actor
from worker.config import Settings
from worker.database import Database
from worker.errors import ConflictError
from worker.jobs import brake, control, limits, reinstate
from worker.ledger import jobs as ledger_jobs
from worker.queue.apply import apply
from worker.queue.drain import Drain
from worker.queue.leftovers import Leftovers
from worker.records import Job


def _limit(db: Database, world: World, floor: int) -> None:
    wanted = BrakeSetting(floor=floor, share=0.0)
    brake.set_limits(db, organisation_id=world.organisation_id, wanted=wanted, actor="test:approver")


def _act(act: Callable[..., Job], db: Database, world: World, job_id: int, actor: str = "test:approver") -> Job:
    return act(db, organisation_id=world.organisation_id, job_id=job_id, actor=actor)


def test_concurrent_jobs_cannot_pass_the_limit_together(db: Database, world: World, threads: Threads) -> None:
    """Lists, and persons one by one, all at one barrier."""
    _limit(db, world, 10)
    lists = [world.enrolments(3) for _ in range(6)]
    for number in range(6):
        world.enrolment(f"person-{number}")
    threads.together(
        *[partial(world.submit, db, ids) for ids in lists],
        *[partial(world.event, db, "deactivated", f"person-{number}") for number in range(6)],
    )
    rows = world.run("SELECT state, sum(learners) FROM withdrawals.jobs GROUP BY state")
    learners = {state: int(count) for state, count in rows}
    assert learners["queued"] <= 10
    assert learners["queued"] + learners["held"] == 24
    assert learners["held"] >= 24 - 10
    assert brake.show(db, organisation_id=world.organisation_id).volume == learners["queued"]
    assert_balanced(db)


def test_concurrent_jobs_cannot_pass_the_limit_of_a_series_together(
    db: Database, world: World, threads: Threads
) -> None:
    """Lists, small and of several chunks, and persons, all in one Series and all at one barrier."""
    world.run(
        "INSERT INTO withdrawals.organisation_settings (organisation_id, policies) VALUES (:o, CAST(:p AS jsonb))",
        o=world.organisation_id,
        p='[{"act": "withdraw_series", "source": null, "alone_up_to": 10}]',
    )
    ids, persons = world.enrolments(18), [f"person-{number}" for number in range(6)]
    of_persons = [world.enrolment(person) for person in persons]
    world.run(
        "UPDATE lms.enrolments SET series_id = (SELECT series_id FROM lms.enrolments WHERE id = :id)"
        " WHERE id = ANY(:ids)",
        id=ids[0],
        ids=of_persons,
    )
    lists = [ids[start : start + 3] for start in range(0, 18, 3)]
    threads.together(
        *[partial(world.submit, db, part, chunk_size=2 + n % 2) for n, part in enumerate(lists)],
        *[partial(world.event, db, "deactivated", person) for person in persons],
    )
    rows = world.run(
        "SELECT j.state, sum(s.learners) AS learners FROM withdrawals.jobs j"
        " JOIN withdrawals.brake_series s ON s.job_id = j.id GROUP BY 1"
    )
    learners = {row.state: int(row.learners) for row in rows}
    assert learners["queued"] + learners["held"] == 24
    assert 8 <= learners["queued"] <= 10
    assert_balanced(db)


def test_an_admission_that_waited_for_another_counts_it(
    slow_db: Database, owner: Database, world: World, threads: Threads
) -> None:
    """The second one's count begins after the first has committed, not when it began to wait."""
    _limit(slow_db, world, 4)
    ids = world.enrolments(8)
    with held(owner, "SELECT 1 FROM withdrawals.organisation_settings FOR UPDATE") as hold:
        both = [threads.go(world.submit, slow_db, part) for part in (ids[:4], ids[4:])]
        await_waiters(world, 2)
        hold.release()
        states = sorted(str(one.result(PATIENCE).state) for one in both)
    assert states == ["held", "queued"]


def test_two_approvers_at_once_release_once(db: Database, world: World, threads: Threads) -> None:
    """One on the job, one by filter: one act on record, counted once."""
    _limit(db, world, 0)
    jobs = [world.submit(db, world.enrolments(2)).id for _ in range(5)]
    wanted = ReleaseFilter(held_because="brake")
    results = threads.together(
        *[partial(_act, control.release, db, world, job_id, "test:one") for job_id in jobs],
        partial(control.release_matching, db, organisation_id=world.organisation_id, wanted=wanted, actor="test:two"),
    )
    assert not [error for error in results if isinstance(error, Exception)]
    assert {job_state(world, job_id) for job_id in jobs} == {"queued"}
    assert world.one("SELECT count(*) FROM withdrawals.audit WHERE action = 'job.release'") == 5
    assert brake.show(db, organisation_id=world.organisation_id).volume == 10
    assert_balanced(db)


def test_a_release_against_a_cancel_leaves_one_of_the_two(db: Database, world: World, threads: Threads) -> None:
    _limit(db, world, 0)
    for _ in range(6):
        job = world.submit(db, world.enrolments(2))
        released, cancelled = threads.together(
            partial(_act, control.release, db, world, job.id),
            partial(_act, control.cancel, db, world, job.id),
        )
        assert not isinstance(cancelled, Exception)
        assert job_state(world, job.id) == "cancelled", "a released job can be cancelled too"
        assert isinstance(released, Job | ConflictError)
        assert brake.show(db, organisation_id=world.organisation_id).held == 0
        assert_balanced(db)


def test_a_job_paused_while_its_last_chunk_is_decided_still_ends(
    db: Database, world: World, environment: Settings, threads: Threads
) -> None:
    for _ in range(8):
        job = world.submit(db, world.enrolments(2))
        claim = take(db)
        deciding, pausing = threads.go(decide, db, claim), threads.go(_act, control.pause, db, world, job.id)
        deciding.result(PATIENCE)
        error = pausing.exception(PATIENCE)
        assert error is None or (isinstance(error, ConflictError) and "ended" in str(error))
        if job_state(world, job.id) == "paused":
            assert world.outcomes(job.id) == {}
            _act(control.resume, db, world, job.id)
            Drain(db, environment).run()
        assert job_state(world, job.id) == "completed"
        assert_balanced(db)


def test_pause_and_resume_in_a_stream_of_claims_lose_nothing(db: Database, world: World, environment: Settings) -> None:
    settings = environment.model_copy(update={"chunk_size": 5})
    ids = world.enrolments(150)
    job = world.submit(db, ids, chunk_size=5)
    with workers(db, settings, 3):
        for _ in range(5):
            try:
                _act(control.pause, db, world, job.id)
            except ConflictError:
                break
            eventually(
                lambda: not world.one(
                    "SELECT count(*) FROM withdrawals.chunks WHERE job_id = :id AND state = 'claimed'", id=job.id
                ),
                what="no chunk in hand",
            )  # fmt: skip
            before = len(world.outcomes(job.id))
            assert len(world.outcomes(job.id)) == before
            _act(control.resume, db, world, job.id)
        eventually(lambda: job_state(world, job.id) == "completed", what="the job completed")
    assert world.outcomes(job.id) == dict.fromkeys(ids, "withdrawn")
    assert_balanced(db)


def test_a_move_against_a_cancel_leaves_one_of_the_legal_ends(db: Database, world: World, threads: Threads) -> None:
    for _ in range(6):
        job = world.submit(db, world.enrolments(2), effective_at="2990-01-01T00:00:00Z")
        move = partial(control.move, effective_at=datetime(2020, 1, 1, tzinfo=UTC))
        moved, cancelled = threads.together(
            partial(_act, move, db, world, job.id), partial(_act, control.cancel, db, world, job.id)
        )
        assert not isinstance(cancelled, Exception)
        assert isinstance(moved, Job | ConflictError)
        assert job_state(world, job.id) == JobState.CANCELLED
        assert_balanced(db)


def _proposal(db: Database, world: World, floor: int) -> int:
    wanted = LimitRequest(floor=floor, share=0.0, note="why")
    return limits.propose(db, organisation_id=world.organisation_id, wanted=wanted, who=Actor("ada")).id


def _decide(act: str, db: Database, world: World, proposal_id: int, name: str) -> LimitProposal:
    given: dict[str, Any] = {"organisation_id": world.organisation_id, "proposal_id": proposal_id, "who": Actor(name)}
    if act == "reject":
        return limits.reject(db, **given, note="no")
    return limits.approve(db, **given) if act == "approve" else limits.withdraw(db, **given)


def test_of_two_decisions_at_once_about_limits_one_stands(db: Database, world: World, threads: Threads) -> None:
    """Approve against reject, against another approval, and against the proposer who takes it back."""
    pairs = [("approve", "reject", "bea"), ("approve", "approve", "bea"), ("approve", "withdraw", "ada")]
    for number, (one, other, who) in enumerate(pairs * 3):
        proposal_id = _proposal(db, world, 100 + number)
        before = brake.show(db, organisation_id=world.organisation_id).floor
        results = threads.together(
            partial(_decide, one, db, world, proposal_id, "carl"), partial(_decide, other, db, world, proposal_id, who)
        )
        done = [result for result in results if isinstance(result, LimitProposal)]
        assert len(done) == 1, results
        assert [type(result) for result in results if result not in done] == [ConflictError]
        after = brake.show(db, organisation_id=world.organisation_id)
        assert after.floor == (100 + number if done[0].state == "approved" else before)
        acts = "SELECT count(*) FROM withdrawals.audit WHERE action IN ('brake.set', 'brake.reject', 'brake.withdraw')"
        assert world.one(f"{acts} AND (detail ->> 'proposal')::bigint = :id", id=proposal_id) == 1


def test_a_job_is_admitted_by_the_limits_before_or_after_an_approval(
    db: Database, world: World, threads: Threads
) -> None:
    for _ in range(6):
        _limit(db, world, 10**6)
        proposal_id = _proposal(db, world, 0)
        jobs = [partial(world.submit, db, world.enrolments(2)) for _ in range(3)]
        decided, *made = threads.together(partial(_decide, "approve", db, world, proposal_id, "bea"), *jobs)
        assert isinstance(decided, LimitProposal)
        for job in made:
            assert isinstance(job, Job)
            assert (job.brake["floor"] == 0) if job.state == JobState.HELD and job.brake else job.state == "queued"
        assert world.submit(db, world.enrolments(1)).state == JobState.HELD
        assert_balanced(db)


@pytest.mark.parametrize("dies", [False, True])
def test_a_cancel_while_a_chunk_is_being_decided_counts_what_it_withdrew(
    db: Database, world: World, dies: bool
) -> None:
    """The job ends before the chunk commits. Whoever finishes it corrects the count, else the relay."""
    ids = world.enrolments(5)
    job = world.submit(db, ids, chunk_size=2)
    claim = take(db, budget=2)
    with db.begin() as connection:
        apply(connection, claim)
        assert _act(control.cancel, db, world, job.id).state == JobState.CANCELLED
        assert brake.show(db, organisation_id=world.organisation_id).volume == 5
        assert_balanced(db)
    if dies:
        assert_balanced(db)
        Leftovers(timedelta(seconds=30)).finish(db)
    else:
        assert finish(db, job.id) == []
    assert brake.show(db, organisation_id=world.organisation_id).volume == 2
    assert world.run("SELECT learners, correct_due FROM withdrawals.jobs") == [(2, False)]
    assert finish(db, job.id) == []
    assert_balanced(db)


def test_corrections_and_admissions_at_once_leave_an_exact_window(
    db: Database, world: World, environment: Settings, threads: Threads
) -> None:
    """Jobs end with fewer learners than they were admitted with, while others are admitted, cancelled and undone."""
    _limit(db, world, 20)
    ids = world.enrolments(60)
    jobs = [world.submit(db, ids[n : n + 5]) for n in range(0, 20, 5)]
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = ANY(:ids)", ids=ids[:20:2])
    with workers(db, environment, 2):
        threads.together(
            *[partial(world.submit, db, ids[n : n + 4]) for n in range(20, 60, 4)],
            *[partial(_act, control.cancel, db, world, job.id) for job in jobs[:2]],
        )
        eventually(
            lambda: (
                not world.one(
                    "SELECT count(*) FROM withdrawals.jobs WHERE state NOT IN ('held') AND finished_at IS NULL"
                )
            ),
            what="every job ended or held",
        )
    decide_due(db, environment)
    withdrawn = world.one("SELECT count(DISTINCT learner_id) FROM lms.enrolments WHERE status = 'withdrawn'")
    leftovers = Leftovers(timedelta(seconds=30))  # a chunk that was claimed before the cancel comes back
    leftovers.close_cancelled(db)
    leftovers.finish(db)
    assert not world.one("SELECT count(*) FROM withdrawals.jobs WHERE correct_due")
    assert brake.show(db, organisation_id=world.organisation_id).volume == withdrawn
    assert_balanced(db)


def test_two_undos_of_one_person_at_once_give_them_back_once(
    slow_db: Database, world: World, environment: Settings, threads: Threads
) -> None:
    """The second waits for the learner, and finds that the first has left it the last withdrawal."""
    ids = [world.enrolment("anna"), world.enrolment("anna")]
    job = world.submit(slow_db, ids)
    decide_due(slow_db, environment)
    undos = [_undo(slow_db, world, job.id, [one]) for one in ids]
    first, second = (take(slow_db, budget=1) for _ in undos)
    with slow_db.begin() as connection:
        apply(connection, first)
        waiting = threads.go(decide, slow_db, second)
        await_waiters(world)
    waiting.result(PATIENCE)
    threads.together(*[partial(finish, slow_db, one.id) for one in undos])
    assert world.run("SELECT learners_back FROM withdrawals.chunks WHERE job_id > 1 ORDER BY id") == [(0,), (1,)]
    assert brake.show(slow_db, organisation_id=world.organisation_id).volume == 0
    assert_balanced(slow_db)


def test_an_undo_that_was_cancelled_gives_back_once_however_many_finish_it(
    slow_db: Database, world: World, environment: Settings, threads: Threads
) -> None:
    """Two workers commit its last two chunks, and each finds the count due; a relay may come between them, too."""
    job = world.submit(slow_db, world.enrolments(6))
    decide_due(slow_db, environment)
    undo = _undo(slow_db, world, job.id, chunk_size=2)
    claim = take(slow_db, budget=2)
    with slow_db.begin() as connection:
        apply(connection, claim)
        assert _act(control.cancel, slow_db, world, undo.id).state == JobState.CANCELLED
    with slow_db.begin() as connection:
        ledger_jobs.finish(connection, [undo.id])
        waiting = threads.go(finish, slow_db, undo.id)
        await_waiters(world)
    assert waiting.result(PATIENCE) == []
    assert brake.show(slow_db, organisation_id=world.organisation_id).volume == 4
    assert_balanced(slow_db)


def test_an_undo_stops_between_its_chunks_and_counts_what_it_took_back(
    db: Database, world: World, environment: Settings
) -> None:
    """As any job: a pause keeps what is left, a cancel closes it, and another undo takes it back."""
    job = world.submit(db, world.enrolments(6))
    decide_due(db, environment)
    undo = _undo(db, world, job.id, chunk_size=2)
    decide(db, take(db, budget=2))
    _act(control.pause, db, world, undo.id)
    assert nothing_is_due(db)
    assert_balanced(db)
    _act(control.resume, db, world, undo.id)
    decide(db, take(db, budget=2))
    _act(control.cancel, db, world, undo.id)
    assert finish(db, undo.id) == []
    assert chunks(world, undo.id, "state, counts") == [
        ("done", {"reinstated": 2}), ("done", {"reinstated": 2}), ("cancelled", {"cancelled": 2}),
    ]  # fmt: skip
    assert world.one("SELECT count(*) FROM withdrawals.outcomes WHERE reinstated_by = :id", id=undo.id) == 4
    assert brake.show(db, organisation_id=world.organisation_id).volume == 2
    assert_balanced(db)
    assert _undo(db, world, job.id).accepted == 2
    decide_due(db, environment)
    assert brake.show(db, organisation_id=world.organisation_id).volume == 0
    assert_balanced(db)


def _undo(db: Database, world: World, job_id: int, ids: list[int] | None = None, *, chunk_size: int = 1000) -> Job:
    request = ReinstateRequest(filter=ReinstateFilter(enrolment_ids=ids) if ids else None)
    return reinstate.reinstate(db, world.requester(), job_id, request, chunk_size=chunk_size).job
