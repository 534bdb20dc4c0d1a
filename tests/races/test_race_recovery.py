"""What becomes of attempts that fail, claims that vanish and workers that are told to stop.

DESIGN.md §2: "An error that belongs to a row … splits the chunk in halves, durably, with fresh counts"; "At any cap a
chunk of several ids is split, one of a single id becomes a dead letter (`retries_exhausted`, or `poison` when its
claims vanished). A person chunk is never split: its letter names the person. Graceful give-back refunds the claim";
"When such a claim fails or vanishes, its chunks are next claimed one by one."
"""

from collections import Counter
from collections.abc import Callable

import pytest

from tests.support.racing import (
    Threads,
    always_balanced,
    await_waiters,
    chunks,
    due_now,
    hold_enrolments,
    job_state,
    leases_run_out,
    take,
    workers,
)
from tests.world import PATIENCE, World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies
from worker.queue import recovery
from worker.queue.drain import Drain
from worker.records import DeadLetter


@pytest.fixture
def quick(environment: Settings) -> Settings:
    """Backoffs that are over at once; three attempts."""
    return environment.model_copy(update={"backoff_max_seconds": 0.01, "max_attempts": 3})


def _refuse(world: World, *ids: int) -> None:
    """The platform refuses to change these enrolments, with an error that belongs to the row."""
    world.run(
        f"""CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF new.id = ANY(ARRAY[{", ".join(map(str, ids))}]::bigint[]) THEN
            RAISE EXCEPTION 'enrolment % (of somebody@example.org) is under audit', new.id;
        END IF; RETURN new; END $$"""
    )
    world.run("CREATE TRIGGER refuse BEFORE UPDATE ON lms.enrolments FOR EACH ROW EXECUTE FUNCTION public.refuse()")


def _accept(world: World) -> None:
    world.run("DROP TRIGGER refuse ON lms.enrolments")


def _letter(db: Database, world: World) -> DeadLetter:
    """The only letter, as support sees it."""
    (row,) = world.letters()
    return remedies.show(db, organisation_id=world.organisation_id, letter_id=row.id)


def _redrive(db: Database, world: World, letter_id: int) -> None:
    remedies.redrive(db, organisation_id=world.organisation_id, letter_ids=[letter_id], actor="test:support")


def _vanish(db: Database, world: World, settings: Settings, times: int = 1) -> None:
    """Claim one chunk and never come back, so many times."""
    for _ in range(times):
        take(db, budget=1)
        leases_run_out(world)
        assert recovery.take_over(db, settings) == 1


def test_a_row_that_the_database_refuses_is_isolated_and_put_before_support(
    db: Database, world: World, quick: Settings, withdrawals: Callable[[], Counter[int]]
) -> None:
    """Halves until it is alone; its neighbours are withdrawn; its letter says what happened and when."""
    ids = world.enrolments(16)
    bad = ids[5]
    _refuse(world, bad)
    job = world.submit(db, ids)
    with workers(db, quick, 3), always_balanced(db):
        eventually(lambda: job_state(world, job.id) == "completed_with_exceptions", what="the job ended")
    assert world.outcomes(job.id) == {**dict.fromkeys(ids, "withdrawn"), bad: "failed"}
    assert world.status(bad) == "in_progress"
    letter = _letter(db, world)
    assert (letter.code, letter.state, letter.enrolment_id) == ("retries_exhausted", "open", bad)
    assert letter.error_class == "RaiseException"
    assert "P0001" in letter.message
    assert "somebody" not in letter.message  # free of values
    assert len(letter.fingerprint) == 12
    assert [attempt["result"] for attempt in letter.attempts] == ["failed"] * (4 + 3)  # 16, 8, 4, 2, then alone
    for attempt in letter.attempts:
        assert attempt["started_at"] <= attempt["ended_at"]
        assert (attempt["error_class"], attempt["fingerprint"]) == (letter.error_class, letter.fingerprint)
    assert [size for (size,) in world.run("SELECT size FROM withdrawals.chunks WHERE state = 'split' ORDER BY id")] == [
        16, 8, 4, 2,
    ]  # fmt: skip

    _redrive(db, world, letter.id)
    with workers(db, quick, 2):
        eventually(lambda: _letter(db, world).state == "open", what="the attempt in vain")
    assert world.outcomes(job.id)[bad] == "failed"
    assert len(_letter(db, world).attempts) == 7 + 3 + 1
    assert_balanced(db)

    _accept(world)
    _redrive(db, world, letter.id)
    with workers(db, quick, 2):
        eventually(lambda: _letter(db, world).state == "resolved", what="the letter resolved")
    assert world.outcomes(job.id) == dict.fromkeys(ids, "withdrawn")
    assert withdrawals() == dict.fromkeys(ids, 1)
    assert job_state(world, job.id) == "completed_with_exceptions"  # "a later redrive does not change it"
    assert_balanced(db)


def test_two_refused_rows_of_one_chunk_get_a_letter_each(db: Database, world: World, quick: Settings) -> None:
    """Equal faults of different rows share a fingerprint; nothing is lost on the way."""
    ids = world.enrolments(9)
    bad = {ids[0], ids[8]}
    _refuse(world, *bad)
    job = world.submit(db, ids)
    with workers(db, quick, 3):
        eventually(lambda: job_state(world, job.id) == "completed_with_exceptions", what="the job ended")
    assert {key for key, value in world.outcomes(job.id).items() if value == "failed"} == bad
    assert len(world.outcomes(job.id)) == 9
    assert {letter.enrolment_id for letter in world.letters()} == bad
    assert world.one("SELECT count(DISTINCT fingerprint) FROM withdrawals.dead_letters") == 1
    assert_balanced(db)


def test_a_claim_of_several_chunks_that_fails_is_next_claimed_one_by_one(
    db: Database, world: World, quick: Settings
) -> None:
    """None of them is to blame yet: no attempt counts, no claim counts, and the innocent are done."""
    good, bad, fine = world.enrolments(3)
    _refuse(world, bad)
    jobs = [world.submit(db, [enrolment_id]).id for enrolment_id in (good, bad, fine)]
    claim = take(db)
    assert len(claim.chunk_ids) == 3
    recovery.record_failure(db, quick, claim, RuntimeError("of one of them"))
    for job in jobs:
        assert chunks(world, job, "state, alone, attempts, claims") == [("ready", True, 0, 0)]
    assert world.one("SELECT count(*) FROM withdrawals.attempts") == 0
    assert [len(take(db).chunk_ids) for _ in jobs] == [1, 1, 1]
    leases_run_out(world)
    recovery.take_over(db, quick)
    with workers(db, quick, 2):
        eventually(
            lambda: [job_state(world, job) for job in jobs] == ["completed", "completed_with_exceptions", "completed"],
            what="the jobs ended",
        )
    assert world.outcomes(jobs[1]) == {bad: "failed"}
    assert_balanced(db)


def test_a_vanished_claim_comes_back_alone_and_counted(db: Database, world: World, environment: Settings) -> None:
    """Claimed by a process that died: taken over once its lease has run out, each chunk alone from then on."""
    jobs = [world.submit(db, world.enrolments(2)).id for _ in range(3)]
    claim = take(db)
    assert len(claim.chunk_ids) == 3
    assert recovery.take_over(db, environment) == 0  # its lease holds
    leases_run_out(world)
    assert recovery.take_over(db, environment) == 1
    for job in jobs:
        assert chunks(world, job, "state, alone, claims, attempts") == [("ready", True, 1, 0)]
    assert [tuple(row) for row in world.run("SELECT DISTINCT result, error_class FROM withdrawals.attempts")] == [
        ("vanished", "Vanished")
    ]
    assert len(take(db).chunk_ids) == 1
    leases_run_out(world)
    recovery.take_over(db, environment)
    decide_due(db, environment)
    assert {job_state(world, job) for job in jobs} == {"completed"}
    assert world.letters() == []
    assert_balanced(db)


def test_a_lease_that_really_runs_out_is_taken_over_by_the_sweep(
    db: Database, world: World, environment: Settings
) -> None:
    """No clock is turned here: a claim of one second, and the database's time."""
    job = world.submit(db, world.enrolments(2))
    take(db, lease_seconds=1)
    eventually(lambda: recovery.take_over(db, environment) == 1, what="the lease over")
    decide_due(db, environment)
    assert job_state(world, job.id) == "completed"
    assert_balanced(db)


def test_two_sweeps_at_once_take_a_vanished_claim_over_once(
    db: Database, world: World, environment: Settings, threads: Threads
) -> None:
    """Of any number of sweeps one finds the chunk still lost; the count goes up by one."""
    for number in range(1, 5):
        if number == 1:
            job = world.submit(db, world.enrolments(2))
        take(db)
        leases_run_out(world)
        results = threads.together(*[lambda: recovery.take_over(db, environment)] * 3)
        assert not [error for error in results if isinstance(error, Exception)]
        assert world.one("SELECT count(*) FROM withdrawals.attempts") == number
        assert_balanced(db)
    assert [state for (state,) in chunks(world, job.id)] == ["split", "ready", "ready"]


def test_a_single_id_whose_claims_vanish_up_to_the_cap_is_poison(
    db: Database, world: World, environment: Settings
) -> None:
    """What kills its worker each time is not tried for ever; a redrive is a new attempt, with a fresh count."""
    (enrolment_id,) = world.enrolments(1)
    job = world.submit(db, [enrolment_id])
    _vanish(db, world, environment, environment.max_claims - 1)
    assert world.letters() == []
    _vanish(db, world, environment)
    letter = _letter(db, world)
    assert (letter.code, letter.state, letter.enrolment_id) == ("poison", "open", enrolment_id)
    assert [attempt["result"] for attempt in letter.attempts] == ["vanished"] * environment.max_claims
    assert world.outcomes(job.id) == {enrolment_id: "failed"}
    assert job_state(world, job.id) == "completed_with_exceptions"
    assert_balanced(db)
    _redrive(db, world, letter.id)
    _vanish(db, world, environment, environment.max_claims)
    assert _letter(db, world).state == "open"
    assert_balanced(db)
    _redrive(db, world, letter.id)
    decide_due(db, environment)
    assert world.outcomes(job.id) == {enrolment_id: "withdrawn"}
    assert _letter(db, world).state == "resolved"
    assert_balanced(db)


def test_a_chunk_of_several_ids_whose_claims_vanish_up_to_the_cap_is_split(
    db: Database, world: World, environment: Settings
) -> None:
    """Both halves with fresh counts; what is poison will be found alone, the rest is withdrawn."""
    ids = world.enrolments(5)
    job = world.submit(db, ids)
    _vanish(db, world, environment, environment.max_claims)
    assert chunks(world, job.id, "state, size, claims, alone") == [
        ("split", 5, environment.max_claims, True),
        ("ready", 2, 0, True),
        ("ready", 3, 0, True),
    ]
    assert world.letters() == []
    assert_balanced(db)
    decide_due(db, environment)
    assert world.outcomes(job.id) == dict.fromkeys(ids, "withdrawn")
    assert job_state(world, job.id) == "completed"
    assert_balanced(db)


@pytest.mark.parametrize("fate", ["vanishes", "fails"])
def test_a_person_chunk_is_never_split_and_its_letter_names_the_person(
    db: Database, world: World, quick: Settings, fate: str
) -> None:
    """Three enrolments, one of which is refused: the person's chunk is closed whole, and heals whole."""
    ids = [world.enrolment("anna") for _ in range(3)]
    _refuse(world, ids[1])
    job_id = world.event(db, "deactivated", "anna").job_id or 0
    if fate == "vanishes":
        _vanish(db, world, quick, quick.max_claims)
    else:
        with workers(db, quick, 2):
            eventually(world.letters, what="a letter")
    letter = _letter(db, world)
    assert letter.code == ("poison" if fate == "vanishes" else "retries_exhausted")
    assert (letter.enrolment_id, letter.learner_external_id) == (None, "anna")
    assert world.outcomes(job_id) == {}
    eventually(lambda: job_state(world, job_id) == "completed_with_exceptions", what="the job ended")
    assert chunks(world, job_id, "state, size") == [("failed", 1)]
    assert {world.status(enrolment_id) for enrolment_id in ids} == {"in_progress"}
    assert_balanced(db)
    _accept(world)
    late = world.enrolment("anna")
    _redrive(db, world, letter.id)
    with workers(db, quick, 2):
        eventually(lambda: _letter(db, world).state == "resolved", what="the letter resolved")
    assert world.outcomes(job_id) == dict.fromkeys([*ids, late], "withdrawn")
    assert not world.active("anna")
    assert_balanced(db)


def test_a_worker_that_is_told_to_stop_gives_its_claim_back_and_another_finishes(
    slow_db: Database, owner: Database, world: World, patient: Settings, threads: Threads
) -> None:
    """DESIGN.md §2: "Graceful give-back refunds the claim": no attempt, no vanished claim, no waiting for the lease."""
    ids = world.enrolments(4)
    job = world.submit(slow_db, ids)
    later = world.submit(slow_db, world.enrolments(300))
    drain = Drain(slow_db, patient)
    with hold_enrolments(owner, ids[2]):
        working = threads.go(drain.run)
        await_waiters(world)
        drain.stop()
        drain.interrupt()
        assert working.result(PATIENCE) == 1
        assert chunks(world, job.id, "state, claims, attempts") == [("ready", 0, 0)]
        assert chunks(world, later.id, "state, claims, attempts") == [("ready", 0, 0)]
        assert world.one("SELECT count(*) FROM withdrawals.attempts") == 0
        assert_balanced(slow_db)
    decide_due(slow_db, patient)
    assert {job_state(world, job.id), job_state(world, later.id)} == {"completed"}
    assert_balanced(slow_db)


def test_a_give_back_that_comes_after_a_cancel_leaves_the_chunk_closed(
    slow_db: Database, owner: Database, world: World, patient: Settings, threads: Threads
) -> None:
    """Stopped while the job is cancelled: the chunk comes back, is not claimed again and is closed."""
    from worker.jobs import control
    from worker.ledger import closing

    ids = world.enrolments(4)
    job = world.submit(slow_db, ids)
    drain = Drain(slow_db, patient)
    with hold_enrolments(owner, ids[2]):
        working = threads.go(drain.run)
        await_waiters(world)
        control.cancel(slow_db, organisation_id=world.organisation_id, job_id=job.id, actor="test:admin")
        drain.stop()
        drain.interrupt()
        working.result(PATIENCE)
    decide_due(slow_db, patient)
    assert world.outcomes(job.id) == {}
    with slow_db.begin() as connection:
        closing.close_cancelled(connection, [job.id])
    assert chunks(world, job.id) == [("cancelled",)]
    assert job_state(world, job.id) == "cancelled"
    assert_balanced(slow_db)


def test_a_letter_of_several_jobs_whose_attempt_fails_is_open_again_for_all(
    db: Database, world: World, quick: Settings
) -> None:
    """The error is laid on all attempts at the letter together; at the cap each is closed, the letter is open again."""
    bad = world.enrolment(pathway_id=world.pathway())
    jobs = [world.submit(db, [bad]).id for _ in range(3)]
    decide_due(db, quick)
    letter = _letter(db, world)
    _refuse(world, bad)
    remedies.resolve(
        db, organisation_id=world.organisation_id, letter_ids=[letter.id], remedy="override", note="agreed",
        actor="test:support",
    )  # fmt: skip
    with workers(db, quick, 3), always_balanced(db):
        eventually(lambda: _letter(db, world).state == "open", what="the letter open again")
    assert _letter(db, world).error_class == "RaiseException"
    assert [world.outcomes(job)[bad] for job in jobs] == ["pathway_owned"] * 3
    _accept(world)
    remedies.resolve(
        db, organisation_id=world.organisation_id, letter_ids=[letter.id], remedy="override", note="agreed",
        actor="test:support",
    )  # fmt: skip
    with workers(db, quick, 3):
        eventually(lambda: _letter(db, world).state == "resolved", what="the letter resolved")
    assert [world.outcomes(job)[bad] for job in jobs] == ["withdrawn", "already_withdrawn", "already_withdrawn"]
    assert_balanced(db)


def test_a_bug_is_tried_again_with_backoff_and_given_up_with_all_its_attempts(
    db: Database, world: World, quick: Settings
) -> None:
    """No error of the database, so no row to blame: at the cap the chunk is split, and a single id gets its letter."""
    ids = world.enrolments(2)
    job = world.submit(db, ids)
    for _ in range(3 * quick.max_attempts):
        due_now(world)
        recovery.record_failure(db, quick, take(db, budget=1), ValueError("unexpected 17"))
        assert_balanced(db)
    assert world.outcomes(job.id) == dict.fromkeys(ids, "failed")
    assert job_state(world, job.id) == "completed_with_exceptions"
    assert {(letter.code, letter.state) for letter in world.letters()} == {("retries_exhausted", "open")}
    assert world.one("SELECT DISTINCT message FROM withdrawals.dead_letters") == "unexpected N"
    assert_balanced(db)


def test_a_later_job_attaches_to_the_live_letter_and_one_redrive_heals_both(
    db: Database, world: World, quick: Settings, withdrawals: Callable[[], Counter[int]]
) -> None:
    """DESIGN.md §2: "one live letter per (organisation, enrolment, person, code), later jobs attach to it"."""
    (bad,) = world.enrolments(1)
    _refuse(world, bad)
    made = []
    for _ in range(2):
        made.append(world.submit(db, [bad]).id)
        with workers(db, quick, 2):
            eventually(lambda: job_state(world, made[-1]) == "completed_with_exceptions", what="the job ended")
    letter = _letter(db, world)
    assert letter.job_ids == made
    _accept(world)
    _redrive(db, world, letter.id)
    with workers(db, quick, 3):
        eventually(lambda: _letter(db, world).state == "resolved", what="the letter resolved")
    assert [world.outcomes(job)[bad] for job in made] == ["withdrawn", "already_withdrawn"]
    assert withdrawals() == {bad: 1}
    assert_balanced(db)
