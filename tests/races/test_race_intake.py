"""A row that the platform or a worker keeps locked holds up what is about it, and nobody else of the organisation.

Admission takes the organisation's settings row, so whoever holds it must not wait for a person, a learner or a letter
(decision record 0019). The platform may keep a learner locked for as long as it likes.
"""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from schemas.dead_letters import LetterFilter
from tests.support.racing import Threads, await_waiters, decide, falls_due, held, hold_enrolments, take
from tests.world import PATIENCE, World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies, run_steps, runs
from worker.people import events, scim_users
from worker.people.scim_users import UserAttributes

HOLD_LEARNER = "SELECT 1 FROM lms.learners WHERE external_id = 'anna' FOR UPDATE"
SETTINGS_ARE_FREE = "SELECT 1 FROM withdrawals.organisation_settings FOR UPDATE NOWAIT"


def others_go_on(db: Database, world: World) -> None:
    """The organisation takes in another person's event and a bulk job, while the row is still locked."""
    world.run(SETTINGS_ARE_FREE)
    world.enrolment("ben")
    assert world.event(db, "deactivated", "ben").status == "accepted"
    assert world.submit(db, world.enrolments(3)).state == "queued"


@pytest.mark.parametrize("kind", ["deactivated", "reactivated"])
def test_a_locked_learner_holds_up_their_own_event_and_no_other(
    slow_db: Database, owner: Database, world: World, threads: Threads, kind: str
) -> None:
    world.enrolment("anna")
    world.event(slow_db, "reactivated" if kind == "deactivated" else "deactivated", "anna")
    with held(owner, HOLD_LEARNER) as hold:
        sending = threads.go(world.event, slow_db, kind, "anna")
        await_waiters(world)
        others_go_on(slow_db, world)
        assert not sending.done()
        hold.release()
        sending.result(PATIENCE)
    assert world.active("anna") is (kind == "reactivated")
    assert_balanced(slow_db)


def test_a_person_whom_a_worker_is_deciding_holds_up_their_own_event_and_no_other(
    slow_db: Database, owner: Database, world: World, threads: Threads
) -> None:
    """The worker holds the person and waits for an enrolment that the platform has locked."""
    enrolment_id = world.enrolment("anna")
    world.event(slow_db, "deactivated", "anna")
    with hold_enrolments(owner, enrolment_id) as hold:
        deciding = threads.go(decide, slow_db, take(slow_db))
        await_waiters(world, 1)
        sending = threads.go(world.event, slow_db, "reactivated", "anna")
        await_waiters(world, 2)
        others_go_on(slow_db, world)
        hold.release()
        deciding.result(PATIENCE)
        assert sending.result(PATIENCE).status == "reactivated"
    assert world.status(enrolment_id) == "withdrawn"
    assert_balanced(slow_db)


def test_an_event_about_a_learner_locked_for_long_is_answered_with_a_timeout(
    quick_db: Database, owner: Database, world: World
) -> None:
    """After its patience; nothing of it is written, and the sender asks again."""
    world.learner("anna")
    with held(owner, HOLD_LEARNER):
        with pytest.raises(Exception, match=r"lock timeout|could not obtain lock"):
            world.event(quick_db, "deactivated", "anna")
        world.run(SETTINGS_ARE_FREE)
    assert world.one("SELECT count(*) FROM withdrawals.receipts") == 0


def test_a_user_whom_the_platform_has_locked_holds_up_only_what_scim_does_to_them(
    slow_db: Database, owner: Database, world: World, threads: Threads
) -> None:
    learner_id = world.learner("anna")

    def deactivate() -> None:
        scim_users.change(
            slow_db,
            organisation_id=world.organisation_id,
            actor="token:okta",
            learner_id=learner_id,
            wanted=lambda user: UserAttributes(user.user_name, user.external_id, user.display_name, active=False),
        )

    with held(owner, HOLD_LEARNER) as hold:
        changing = threads.go(deactivate)
        await_waiters(world)
        others_go_on(slow_db, world)
        hold.release()
        changing.result(PATIENCE)
    assert not world.active("anna")


def test_a_user_whom_the_platform_is_inserting_too_holds_up_nobody_else(
    slow_db: Database, owner: Database, world: World, threads: Threads
) -> None:
    """SCIM's insert would wait for the platform's transaction: it gives up at once, and tries again."""
    insert = "INSERT INTO lms.learners (organisation_id, external_id) VALUES (:o, 'zoe')"
    wanted = UserAttributes("zoe@example.org", "zoe", "Zoe", active=True)
    with held(owner, insert, o=world.organisation_id) as hold:
        creating = threads.go(
            scim_users.create, slow_db, organisation_id=world.organisation_id, actor="token:okta", wanted=wanted
        )
        world.enrolment("ben")
        assert world.event(slow_db, "deactivated", "ben").status == "accepted"
        eventually(lambda: _is_free(world), what="the settings row, not locked")
        hold.connection.rollback()
        assert creating.result(PATIENCE).external_id == "zoe"
    assert hold.connection


def _is_free(world: World) -> bool:
    try:
        world.run(SETTINGS_ARE_FREE)
    except Exception:
        return False
    return True


def test_a_locked_learner_does_not_hold_up_the_deactivations_that_fall_due(
    db: Database, owner: Database, world: World
) -> None:
    for person in ("anna", "ben"):
        world.learner(person)
        world.event(db, "deactivated", person, effective_at=datetime.now(UTC) + timedelta(days=1))
    falls_due(world)
    with held(owner, HOLD_LEARNER):
        assert events.deactivate_due(db) == 1
        assert (world.active("anna"), world.active("ben")) == (True, False)
    assert events.deactivate_due(db) == 1
    assert not world.active("anna")


def _owned(db: Database, world: World, environment: Settings) -> tuple[int, int]:
    """An enrolment that a pathway owns, and its letter."""
    enrolment_id = world.enrolment("anna", pathway_id=world.pathway())
    world.submit(db, [enrolment_id])
    decide_due(db, environment)
    return enrolment_id, world.letters()[0].id


def test_a_letter_that_a_worker_is_deciding_holds_up_an_act_on_it_and_no_other(
    slow_db: Database, owner: Database, world: World, environment: Settings, threads: Threads
) -> None:
    enrolment_id, letter_id = _owned(slow_db, world, environment)
    world.submit(slow_db, [enrolment_id])
    subject = {"organisation_id": world.organisation_id, "letter_ids": [letter_id], "actor": "test:support"}
    with hold_enrolments(owner, enrolment_id) as hold:
        deciding = threads.go(decide, slow_db, take(slow_db))
        await_waiters(world, 1)
        acting = threads.go(remedies.redrive, slow_db, **subject)
        await_waiters(world, 2)
        others_go_on(slow_db, world)
        hold.release()
        deciding.result(PATIENCE)
        acting.result(PATIENCE)
    decide_due(slow_db, environment)
    assert [letter.state for letter in world.letters()] == ["open"]
    assert_balanced(slow_db)


def test_a_run_leaves_a_letter_that_a_worker_is_deciding_for_its_next_step(
    slow_db: Database, owner: Database, world: World, environment: Settings
) -> None:
    first, _ = _owned(slow_db, world, environment)
    second = world.enrolment(uuid4().hex, pathway_id=world.pathway())
    world.submit(slow_db, [second])
    decide_due(slow_db, environment)
    run = runs.start(
        slow_db, organisation_id=world.organisation_id, act="keep", wanted=LetterFilter(), actor="x", note="agreed"
    )
    world.run("UPDATE withdrawals.runs SET stepped_at = stepped_at - interval '1 second'")
    with held(owner, "SELECT 1 FROM withdrawals.dead_letters WHERE enrolment_id = :id FOR UPDATE", id=first):
        assert run_steps.step_all(slow_db) == 1
        shown = runs.show(slow_db, organisation_id=world.organisation_id, run_id=run.id)
        assert (shown.waiting, shown.passed) == (1, 0)
    world.run("UPDATE withdrawals.runs SET stepped_at = stepped_at - interval '1 second'")
    assert run_steps.step_all(slow_db) == 1
    assert {letter.state for letter in world.letters()} == {"resolved"}
