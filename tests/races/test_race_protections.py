"""A protection is set or lifted while a chunk decides: it is honoured, or it came after the decision. No third way.

A chunk that is not special is decided by one statement, whose snapshot is older than the locks that it waits for; and a
protection is another row than the one that is locked. Each order is tried on both ways of deciding.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection

from schemas.people import ErasureRequest
from schemas.protections import Protection, ProtectionRequest
from tests.jobs.undoing import Undo
from tests.support.racing import (
    DECIDE,
    Threads,
    always_balanced,
    await_waiters,
    decide,
    held,
    hold_enrolments,
    take,
    workers,
)
from tests.world import PATIENCE, World, apply_inbox, assert_balanced, decide_due, eventually
from worker.access.persons import Actor
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies, run_steps
from worker.errors import ErasedPersonError, ErasureRefusedError
from worker.ledger import protections as statements
from worker.people import erasure, protections

ADA, EVE = Actor("token:ada"), Actor("token:eve")
HOLD = {"kind": "legal_hold", "reason": "case 17"}


def protect(db: Database, world: World, **subject: object) -> Protection:
    wanted = ProtectionRequest.model_validate({**HOLD, **subject})
    return protections.protect(db, organisation_id=world.organisation_id, wanted=wanted, who=ADA)


@contextmanager
def protecting(db: Database, world: World, **subject: object) -> Iterator[Connection]:
    """A protection that is written, with its locks, and not committed before the block commits it."""
    terms = {"learner_external_id": None, "enrolment_id": None, "until": None, **HOLD, **subject}
    with db.engine.connect() as connection:
        if terms["learner_external_id"] is not None:
            assert statements.lock_learner(connection, world.organisation_id, str(terms["learner_external_id"]))
        else:
            assert statements.lock_enrolment(connection, world.organisation_id, int(str(terms["enrolment_id"])))
        made = {"made_by": ADA.name, "maker_made_by": None}
        assert statements.insert_protection(connection, world.organisation_id, {**terms, **made})
        yield connection


@pytest.mark.part(2)
@pytest.mark.parametrize("by", DECIDE)
@pytest.mark.parametrize("of", ["learner", "enrolment"])
def test_a_chunk_that_waited_for_a_protection_honours_it(
    slow_db: Database, world: World, threads: Threads, of: str, by: str
) -> None:
    """The protection commits while the chunk waits for the rows that it locks; nothing of these rows has changed."""
    first, second = world.enrolment("anna"), world.enrolment("anna")
    other = world.enrolment("ben")
    subject = {"learner_external_id": "anna"} if of == "learner" else {"enrolment_id": first}
    if not by.startswith("person"):
        job_id = world.submit(slow_db, [first, second, other]).id
    else:
        job_id = world.event(slow_db, "deactivated", "anna").job_id or 0
    claim = take(slow_db)
    with protecting(slow_db, world, **subject) as protection:
        deciding = threads.go(DECIDE[by], slow_db, claim)
        await_waiters(world)
        protection.commit()
        deciding.result(PATIENCE)
    outcomes = world.outcomes(job_id)
    assert outcomes.pop(other, "withdrawn") == "withdrawn"
    assert outcomes == {first: "protected", second: "protected" if of == "learner" else "withdrawn"}
    assert (world.status(first), world.active("anna")) == ("in_progress", not by.startswith("person"))
    assert {letter.code for letter in world.letters()} == {"protected"}
    assert_balanced(slow_db)


@pytest.mark.parametrize("by", ["list", "list at once"])
def test_it_is_honoured_where_the_platform_keeps_times_to_the_second(
    slow_db: Database, world: World, threads: Threads, by: str
) -> None:
    """What the chunk has withdrawn is known from its outcomes, and not from the platform's time of it."""
    first, second = world.enrolment("anna"), world.enrolment("anna")
    world.run("ALTER TABLE lms.enrolments ALTER withdrawn_at TYPE timestamptz(0)")
    job = world.submit(slow_db, [first, second])
    claim = take(slow_db)
    with protecting(slow_db, world, enrolment_id=first) as protection:
        deciding = threads.go(DECIDE[by], slow_db, claim)
        await_waiters(world)
        protection.commit()
        deciding.result(PATIENCE)
    assert world.outcomes(job.id) == {first: "protected", second: "withdrawn"}
    assert world.status(first) == "in_progress"


@pytest.mark.parametrize("by", ["list", "person"])
def test_a_protection_that_waited_for_a_chunk_comes_after_it(
    slow_db: Database, owner: Database, world: World, threads: Threads, by: str
) -> None:
    """The chunk has locked the first enrolment and waits for the second: the protection starts after the withdrawal."""
    first, second = world.enrolment("anna"), world.enrolment("anna")
    if by == "list":
        job_id = world.submit(slow_db, [first, second]).id
    else:
        job_id = world.event(slow_db, "deactivated", "anna").job_id or 0
    claim = take(slow_db)
    with hold_enrolments(owner, second) as hold:
        deciding = threads.go(decide, slow_db, claim)
        await_waiters(world)
        setting = threads.go(protect, slow_db, world, learner_external_id="anna")
        await_waiters(world, 2)
        hold.release()
        deciding.result(PATIENCE)
        protection = setting.result(PATIENCE)
    assert world.outcomes(job_id) == {first: "withdrawn", second: "withdrawn"}
    decided_at = "SELECT max(decided_at) FROM withdrawals.outcomes"
    assert protection.starts_at > world.one(decided_at)
    again = world.submit(slow_db, [first])
    decide(slow_db, take(slow_db))
    assert world.outcomes(again.id) == {first: "already_withdrawn"}
    assert_balanced(slow_db)


def test_a_request_that_waited_while_its_like_was_lifted_protects_anew(
    slow_db: Database, owner: Database, world: World, threads: Threads
) -> None:
    """The same request has the same answer only while its protection is in force, not since it began to wait."""
    enrolment_id = world.enrolment("anna")
    first = protect(slow_db, world, enrolment_id=enrolment_id)
    with hold_enrolments(owner, enrolment_id) as hold:
        setting = threads.go(protect, slow_db, world, enrolment_id=enrolment_id)
        await_waiters(world)
        protections.lift(
            slow_db, organisation_id=world.organisation_id, protection_id=first.id, who=EVE, note="case closed"
        )
        hold.release()
        second = setting.result(PATIENCE)
    assert (second.state, second.id != first.id) == ("live", True)
    job = world.submit(slow_db, [enrolment_id])
    decide(slow_db, take(slow_db))
    assert world.outcomes(job.id) == {enrolment_id: "protected"}
    assert_balanced(slow_db)


def test_a_letter_that_is_being_redriven_while_its_protection_is_lifted(
    slow_db: Database, owner: Database, world: World, threads: Threads, environment: Settings
) -> None:
    """The attempt began before: it honours what was in force at its time, and the daily pass finds the letter."""
    enrolment_id = world.enrolment("anna")
    protection = protect(slow_db, world, enrolment_id=enrolment_id)
    job = world.submit(slow_db, [enrolment_id])
    decide_due(slow_db, environment)
    (letter,) = world.letters()
    organisation_id = world.organisation_id
    remedies.redrive(slow_db, organisation_id=organisation_id, letter_ids=[letter.id], actor="test:support")
    claim = take(slow_db)
    with hold_enrolments(owner, enrolment_id) as hold:
        deciding = threads.go(decide, slow_db, claim)
        await_waiters(world)
        act = {"protection_id": protection.id, "who": EVE, "note": "case closed"}
        protections.lift(slow_db, organisation_id=organisation_id, **act)  # type: ignore[arg-type]
        hold.release()
        deciding.result(PATIENCE)
    assert world.outcomes(job.id) == {enrolment_id: "protected"}
    assert [(one.code, one.state) for one in world.letters()] == [("protected", "open")]
    assert_balanced(slow_db)

    world.run("UPDATE withdrawals.organisation_settings SET passed_at = now() - interval '2 days'")
    assert run_steps.redrive_changed(slow_db) == 1
    run_steps.step_all(slow_db)
    decide_due(slow_db, environment)
    assert world.outcomes(job.id) == {enrolment_id: "withdrawn"}
    assert [(one.code, one.state) for one in world.letters()] == [("protected", "resolved")]
    assert_balanced(slow_db)


def test_a_protection_that_is_set_during_an_undo_leaves_the_undo_alone(
    slow_db: Database, owner: Database, world: World, threads: Threads, environment: Settings
) -> None:
    """An undo withdraws nobody. Afterwards nobody can withdraw the enrolment again."""
    undo = Undo(slow_db, world, environment)
    enrolment_id = world.enrolment("anna")
    withdrawn = undo.withdraw([enrolment_id])
    back = undo.accept(withdrawn.id)
    claim = take(slow_db)
    with hold_enrolments(owner, enrolment_id) as hold:
        deciding = threads.go(decide, slow_db, claim)
        await_waiters(world)
        setting = threads.go(protect, slow_db, world, learner_external_id="anna")
        await_waiters(world, 2)
        hold.release()
        deciding.result(PATIENCE)
        setting.result(PATIENCE)
    assert world.outcomes(back.id) == {enrolment_id: "reinstated"}
    again = undo.withdraw([enrolment_id])
    assert again.outcomes == {"protected": 1}
    assert world.status(enrolment_id) == "in_progress"
    assert_balanced(slow_db)


def test_a_protection_and_an_erasure_of_its_learner_exclude_each_other(
    slow_db: Database, owner: Database, world: World, threads: Threads
) -> None:
    """What is protected is kept; and of whom was erased nothing is stored again, a protection included."""
    enrolment_id = world.enrolment("anna", status="incomplete")
    world.run("UPDATE lms.learners SET active = false")

    def erase() -> object:
        request = ErasureRequest(external_id="anna", note="request 12")
        return erasure.erase(owner, organisation_id=world.organisation_id, request=request, actor="dpo")

    for subject in ({"learner_external_id": "anna"}, {"enrolment_id": enrolment_id}):
        with protecting(slow_db, world, **subject) as protection:
            erasing = threads.go(erase)
            await_waiters(world)
            protection.commit()
            with pytest.raises(ErasureRefusedError, match="is in force"):
                erasing.result(PATIENCE)
        (made,) = protections.list_protections(slow_db, organisation_id=world.organisation_id, live=True)
        protections.lift(slow_db, organisation_id=world.organisation_id, protection_id=made.id, who=EVE, note="over")
    erase()
    with pytest.raises(ErasedPersonError):
        protect(slow_db, world, learner_external_id="anna")
    assert world.one("SELECT count(*) FROM withdrawals.protections WHERE learner_external_id = 'anna'") == 0
    assert_balanced(slow_db)


def test_protections_of_persons_in_a_storm_of_their_deactivations(
    slow_db: Database, world: World, threads: Threads, environment: Settings
) -> None:
    """Whatever comes first, the books agree; and whoever is protected before their event keeps everything."""
    people = [f"p{n}" for n in range(12)]
    ids = {person: [world.enrolment(person), world.enrolment(person)] for person in people}
    protect(slow_db, world, learner_external_id="p0")
    with workers(slow_db, environment, 3), always_balanced(slow_db):
        acts: list[Callable[[], object]] = [
            lambda: [world.event(slow_db, "deactivated", person) for person in people],
            lambda: [protect(slow_db, world, learner_external_id=person) for person in people[1::2]],
            lambda: world.submit(slow_db, [one for person in people for one in ids[person]]),
        ]
        for result in threads.together(*acts):
            assert not isinstance(result, Exception), result
        apply_inbox(slow_db, environment)
        unfinished = "SELECT count(*) FROM withdrawals.chunks WHERE state IN ('waiting', 'ready', 'claimed')"
        eventually(lambda: world.one(unfinished) == 0, what="everything is decided")
    assert [world.status(one) for one in ids["p0"]] == ["in_progress"] * 2
    assert {world.status(one) for person in people[2::2] for one in ids[person]} == {"withdrawn"}
    assert not any(world.active(person) for person in people)


def test_a_protection_that_waits_for_its_learner_is_newer_than_what_was_decided_meanwhile(
    slow_db: Database, owner: Database, world: World, threads: Threads
) -> None:
    """Its time is not that of its transaction. An enrolment that the platform makes meanwhile is protected as well."""
    before, anna = world.enrolment("anna"), world.learner("anna")
    insert = """WITH s AS (INSERT INTO lms.series (organisation_id, code, title) VALUES (:o, 'new', 'new') RETURNING id)
        INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status)
        SELECT :o, :l, s.id, 'in_progress' FROM s"""
    with held(owner, insert, o=world.organisation_id, l=anna) as hold:
        setting = threads.go(protect, slow_db, world, learner_external_id="anna")
        await_waiters(world)
        world.submit(slow_db, [before])
        decide(slow_db, take(slow_db))
        hold.release()
        setting.result(PATIENCE)
    made = world.one("SELECT max(id) FROM lms.enrolments WHERE learner_id = :l", l=anna)
    job = world.submit(slow_db, [before, made])
    decide(slow_db, take(slow_db))
    assert world.outcomes(job.id) == {before: "already_withdrawn", made: "protected"}
    assert_balanced(slow_db)
