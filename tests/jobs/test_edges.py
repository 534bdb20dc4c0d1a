"""Where one thing that goes wrong must not take others with it."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from schemas.events import PersonEvent
from schemas.jobs import JobRequest
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies
from worker.errors import IdempotencyConflictError, InvalidInputError
from worker.jobs.submit import Requester, submit
from worker.ledger import claims
from worker.people import events
from worker.queue import recovery
from worker.queue.broker import make_broker
from worker.queue.relay import Relay

REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'Anna Smith <anna@example.org> is under audit'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON lms.enrolments FOR EACH ROW WHEN (old.id = {id}) EXECUTE FUNCTION refuse()
"""


def refuse(world: World, enrolment_id: int) -> None:
    """Let the platform refuse any change of one enrolment."""
    for statement in REFUSE.format(id=enrolment_id).split(";\nCREATE TRIGGER"):
        world.run(statement if "FUNCTION refuse() RETURNS" in statement else "CREATE TRIGGER" + statement)


@pytest.mark.parametrize("remedy", ["redrive", "discard", "burn", ""])
def test_only_a_remedy_resolves_a_letter(db: Database, world: World, environment: Settings, remedy: str) -> None:
    world.submit(db, [world.enrolment(pathway_id=world.pathway())])
    decide_due(db, environment)
    letter = world.letters()[0]
    with pytest.raises(InvalidInputError, match="remedy"):
        remedies.resolve(
            db,
            organisation_id=world.organisation_id,
            letter_ids=[letter.id],
            remedy=remedy,
            actor="test:support",
            note="why",
        )
    assert world.letters()[0].state == "open"
    assert_balanced(db)


def test_what_the_platform_says_about_a_person_stays_out_of_letters_and_attempts(
    db: Database, world: World, environment: Settings
) -> None:
    enrolment_id = world.enrolment()
    refuse(world, enrolment_id)
    world.submit(db, [enrolment_id])
    for _ in range(environment.max_attempts):
        world.run("UPDATE withdrawals.chunks SET run_after = now() - interval '1 second' WHERE state = 'ready'")
        decide_due(db, environment)
    letter = remedies.show(db, organisation_id=world.organisation_id, letter_id=world.letters()[0].id)
    assert letter.code == "retries_exhausted"
    told = f"{letter.message} {letter.attempts}"
    assert "P0001" in told
    assert "refuse() line" in told
    assert "Anna" not in told
    assert "example" not in told


def test_an_unknown_learners_letter_is_left_to_a_person_after_its_last_try(
    db: Database, world: World, environment: Settings
) -> None:
    environment = environment.model_copy(update={"max_attempts": 2})
    world.event(db, "deactivated", "zoe")
    decide_due(db, environment)
    enrolment_id = world.enrolment("zoe")
    refuse(world, enrolment_id)
    for _ in range(6):
        remedies.redrive_known_learners(db)
        world.run("UPDATE withdrawals.chunks SET run_after = now() - interval '1 second' WHERE state = 'ready'")
        decide_due(db, environment)
    assert world.letters()[0].state == "open"
    assert world.one("SELECT count(*) FROM withdrawals.chunks WHERE redrives IS NOT NULL") == 1
    assert_balanced(db)


def test_a_claim_that_cannot_be_taken_over_keeps_no_other_waiting(
    db: Database, world: World, environment: Settings
) -> None:
    first, *rest = [world.submit(db, [enrolment_id]).id for enrolment_id in world.enrolments(6)]
    tokens = []
    for _ in (first, *rest):
        with db.begin() as connection:
            claim = claims.claim(connection, budget=1, lease=timedelta(seconds=-1))
        assert claim is not None
        tokens.append(claim)
    stuck = tokens[0].chunk_ids[0]
    world.run("CREATE FUNCTION stuck() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$")
    world.run(
        "CREATE TRIGGER stuck BEFORE UPDATE ON withdrawals.chunks FOR EACH ROW "
        f"WHEN (old.id = {stuck}) EXECUTE FUNCTION stuck()"
    )
    recovery.take_over(db, environment)
    states = dict(world.run("SELECT id, state FROM withdrawals.chunks"))
    assert states.pop(stuck) == "claimed"
    assert set(states.values()) == {"ready"}


def test_an_organisation_whose_settings_are_held_keeps_no_other_from_admission(
    db: Database, world: World, environment: Settings
) -> None:
    held = world.submit(db, world.enrolments(1), effective_at="2100-01-01T00:00:00Z")
    other_id = world.organisation("Other")
    elsewhere = world.enrolment("bea", organisation_id=other_id)
    request = JobRequest.model_validate(
        {"reason": "not_required", "enrolment_ids": [elsewhere], "effective_at": "2100-01-01T00:00:00Z"}
    )
    free = submit(db, Requester(other_id, "test:admin", "cli", "elsewhere"), request).job
    world.run("UPDATE withdrawals.jobs SET effective_at = now() - interval '1 minute' WHERE id = :i", i=held.id)
    world.run("UPDATE withdrawals.jobs SET effective_at = now() - interval '1 second' WHERE id = :i", i=free.id)
    relay = Relay(db, make_broker(environment.broker_url.get_secret_value()), environment)
    world.run(
        "INSERT INTO withdrawals.organisation_settings VALUES (:o) ON CONFLICT DO NOTHING", o=world.organisation_id
    )
    with world.owner.begin() as connection:
        connection.execute(
            text("SELECT 1 FROM withdrawals.organisation_settings WHERE organisation_id = :o FOR UPDATE"),
            {"o": world.organisation_id},
        )
        relay.sweep()
    states = dict(world.run("SELECT id, state FROM withdrawals.jobs"))
    assert (states[held.id], states[free.id]) == ("scheduled", "queued")


def test_a_deactivation_is_never_accepted_without_its_job(db: Database, world: World) -> None:
    """A key that another command has used through the same door is a conflict, and nothing of the event is kept."""
    enrolment_id = world.enrolment("anna")
    requester = world.requester(key="same")
    submit(db, requester, JobRequest(reason="not_required", enrolment_ids=[enrolment_id]))
    with pytest.raises(IdempotencyConflictError):
        events.record(db, requester, "cli", PersonEvent(type="user.deactivated", external_id="anna"))
    assert world.active("anna")
    assert world.one("SELECT count(*) FROM withdrawals.person_events") == 0


def test_a_learner_that_cannot_be_changed_keeps_no_other_active(db: Database, world: World) -> None:
    """A deactivation that has fallen due holds for everybody whom the platform lets go."""
    for person in ("anna", "ben", "cleo"):
        world.enrolment(person)
        world.event(db, "deactivated", person, effective_at="2199-01-01T00:00:00Z")
    world.run("UPDATE withdrawals.persons SET effective_at = now() - interval '1 minute'")
    world.run("CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$")
    world.run(
        "CREATE TRIGGER stay BEFORE UPDATE ON lms.learners FOR EACH ROW WHEN (old.external_id = 'anna') "
        "EXECUTE FUNCTION stay()"
    )
    assert events.deactivate_due(db) == 2
    assert [world.active(person) for person in ("anna", "ben", "cleo")] == [True, False, False]
