"""Dead letters that several jobs share, and several people who act on one at the same moment.

DESIGN.md §2: "Redrive adds one chunk to *every* job whose current outcome refers to the letter; they are decided
together, the earliest that still stands withdraws; the letter is resolved when none of its outcomes needs
support any more."
"""

from functools import partial

import pytest

from tests.support.racing import Threads, await_waiters, decide, held, job_state, outcome, take, workers
from tests.world import PATIENCE, World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies
from worker.errors import ConflictError

SUPPORT = "test:support"


def _shared_letter(db: Database, world: World, settings: Settings, jobs: int = 2) -> tuple[int, list[int], int]:
    """A pathway-owned enrolment that several jobs asked for: enrolment, jobs, the letter."""
    enrolment_id = world.enrolment(pathway_id=world.pathway())
    made = [world.submit(db, [enrolment_id]).id for _ in range(jobs)]
    decide_due(db, settings)
    (letter,) = world.letters()
    assert letter.code == "pathway_owned"
    assert [world.outcomes(job) for job in made] == [{enrolment_id: "pathway_owned"}] * jobs
    return enrolment_id, made, letter.id


def _redrive(db: Database, world: World, letter_id: int) -> None:
    remedies.redrive(db, organisation_id=world.organisation_id, letter_ids=[letter_id], actor=SUPPORT)


def _override(db: Database, world: World, letter_id: int) -> None:
    remedies.resolve(
        db, organisation_id=world.organisation_id, letter_ids=[letter_id], remedy="override", note="agreed",
        actor=SUPPORT,
    )  # fmt: skip


def _state(world: World, letter_id: int) -> str:
    return str(world.one("SELECT state FROM withdrawals.dead_letters WHERE id = :id", id=letter_id))


def _replaced(world: World) -> list[tuple[int, str, str, str]]:
    rows = world.run(
        """SELECT job_id, detail->>'before', detail->>'after', actor FROM withdrawals.audit
        WHERE action = 'outcome.replaced' ORDER BY job_id"""
    )
    return [tuple(row) for row in rows]


def test_an_overridden_letter_of_two_jobs_is_withdrawn_by_the_earliest(
    db: Database, world: World, environment: Settings
) -> None:
    """Redriven in vain first (the pathway still owns it), then overridden; the old outcomes are in the audit."""
    enrolment_id, (earlier, later), letter_id = _shared_letter(db, world, environment)
    with workers(db, environment, 4):
        _redrive(db, world, letter_id)
        eventually(lambda: _state(world, letter_id) == "open", what="the letter open again")
        assert world.outcomes(earlier) == world.outcomes(later) == {enrolment_id: "pathway_owned"}
        _override(db, world, letter_id)
        eventually(lambda: _state(world, letter_id) == "resolved", what="the letter resolved")
    assert world.outcomes(earlier) == {enrolment_id: "withdrawn"}
    assert world.outcomes(later) == {enrolment_id: "already_withdrawn"}
    assert world.status(enrolment_id) == "withdrawn"
    assert _replaced(world) == [
        (earlier, "pathway_owned", "withdrawn", SUPPORT),
        (later, "pathway_owned", "already_withdrawn", SUPPORT),
    ]
    assert {job_state(world, job) for job in (earlier, later)} == {"completed_with_exceptions"}
    assert len(world.letters()) == 1
    assert_balanced(db)


@pytest.mark.parametrize("busy", [0, 1], ids=["the first is busy", "the second is busy"])
def test_the_attempts_at_one_letter_never_give_the_later_job_the_first_go(
    slow_db: Database, owner: Database, world: World, environment: Settings, busy: int
) -> None:
    """A claim that cannot get all of them, because another session holds one, decides none out of turn."""
    enrolment_id, (earlier, later), letter_id = _shared_letter(slow_db, world, environment)
    _override(slow_db, world, letter_id)
    of_job = "SELECT 1 FROM withdrawals.chunks WHERE redrives = :id AND job_id = :job FOR UPDATE"
    with held(owner, of_job, id=letter_id, job=(earlier, later)[busy]):
        decide_due(slow_db, environment)
    decide_due(slow_db, environment)
    assert world.outcomes(earlier) == {enrolment_id: "withdrawn"}
    assert world.outcomes(later) == {enrolment_id: "already_withdrawn"}
    assert _state(world, letter_id) == "resolved"
    assert_balanced(slow_db)


@pytest.mark.parametrize("second", [_redrive, _override])
def test_of_two_people_who_act_on_one_letter_at_once_one_is_refused(
    slow_db: Database,
    owner: Database,
    world: World,
    environment: Settings,
    threads: Threads,
    second: object,
) -> None:
    """One attempt, with one chunk for each job; the other person learns that it is in flight."""
    assert callable(second)
    enrolment_id, made, letter_id = _shared_letter(slow_db, world, environment)
    with held(owner, "SELECT 1 FROM withdrawals.dead_letters WHERE id = :id FOR UPDATE", id=letter_id) as hold:
        acts = [threads.go(partial(act, slow_db, world, letter_id)) for act in (_redrive, second)]
        await_waiters(world, 2)
        hold.release()
        results = [outcome(act) for act in acts]
    refused = [error for error in results if isinstance(error, ConflictError)]
    assert len(refused) == 1
    assert results.count(None) == 1
    assert "in flight" in str(refused[0])
    driven = world.run("SELECT job_id FROM withdrawals.chunks WHERE redrives = :id ORDER BY job_id", id=letter_id)
    assert [row[0] for row in driven] == made
    assert world.one("SELECT count(*) FROM withdrawals.audit WHERE dead_letter_id = :id", id=letter_id) == 1
    assert_balanced(slow_db)
    decide_due(slow_db, environment)
    assert _state(world, letter_id) in ("open", "resolved")
    assert world.status(enrolment_id) in ("in_progress", "withdrawn")
    assert_balanced(slow_db)


def test_a_job_that_attaches_to_a_letter_being_settled_has_a_live_one_or_none(
    slow_db: Database, owner: Database, world: World, environment: Settings, threads: Threads
) -> None:
    """An override withdraws while a new job is deciding the same enrolment: it attaches to no closed letter."""
    enrolment_id, (earlier, later), letter_id = _shared_letter(slow_db, world, environment)
    _override(slow_db, world, letter_id)
    override = take(slow_db)
    newcomer = world.submit(slow_db, [enrolment_id]).id
    claim = take(slow_db)
    with held(owner, "SELECT 1 FROM lms.enrolments WHERE id = :id FOR UPDATE", id=enrolment_id) as hold:
        deciding = threads.go(decide, slow_db, override)
        await_waiters(world, 1)
        meeting = threads.go(decide, slow_db, claim)  # waits for the letter that the other one holds
        await_waiters(world, 2)
        hold.release()
        deciding.result(PATIENCE)
        meeting.result(PATIENCE)
    assert world.outcomes(earlier) == {enrolment_id: "withdrawn"}
    assert world.outcomes(later) == world.outcomes(newcomer) == {enrolment_id: "already_withdrawn"}
    assert job_state(world, newcomer) == "completed"
    assert [letter.state for letter in world.letters()] == ["resolved"]
    assert_balanced(slow_db)


@pytest.mark.parametrize("closing", ["discard", "keep"])
def test_a_redrive_and_a_closing_of_one_letter_at_once_are_one_of_the_two(
    slow_db: Database, owner: Database, world: World, environment: Settings, threads: Threads, closing: str
) -> None:
    """Closed, or in flight; the other person learns which, and the outcomes of both jobs agree with it."""
    enrolment_id, made, letter_id = _shared_letter(slow_db, world, environment)
    world.run("UPDATE lms.enrolments SET pathway_id = NULL WHERE id = :id", id=enrolment_id)
    subject = {"organisation_id": world.organisation_id, "letter_ids": [letter_id], "actor": SUPPORT}

    def close() -> None:
        if closing == "discard":
            remedies.discard(slow_db, **subject)  # type: ignore[arg-type]
        else:
            remedies.resolve(slow_db, remedy="keep", note="agreed", **subject)  # type: ignore[arg-type]

    with held(owner, "SELECT 1 FROM withdrawals.dead_letters WHERE id = :id FOR UPDATE", id=letter_id) as hold:
        redriving, closed = threads.go(_redrive, slow_db, world, letter_id), threads.go(close)
        await_waiters(world, 2)
        hold.release()
        refused = [error for error in (outcome(redriving), outcome(closed)) if isinstance(error, ConflictError)]
    assert len(refused) == 1
    driven = world.one("SELECT count(*) FROM withdrawals.chunks WHERE redrives = :id", id=letter_id)
    assert driven == (0 if "in flight" not in str(refused[0]) else len(made))
    decide_due(slow_db, environment)
    assert world.status(enrolment_id) == ("withdrawn" if driven else "in_progress")
    assert _state(world, letter_id) == ("discarded" if not driven and closing == "discard" else "resolved")
    assert_balanced(slow_db)
