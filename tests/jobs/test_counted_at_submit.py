"""A scheduled job's learners are counted when it is accepted: its admission reads a number, however large it is."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from schemas.catalogue import JobState
from schemas.control import BrakeSetting
from tests.support.racing import job_state
from tests.world import World, assert_balanced
from worker.config import Settings
from worker.database import Database
from worker.jobs import admission, brake, control
from worker.ledger import brake as ledger

TOMORROW = datetime.now(UTC) + timedelta(days=1)


def on_read(world: World, what: str) -> None:
    """Do this for each enrolment that the service reads from now on."""
    world.run(f"CREATE FUNCTION public.reads() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN {what} RETURN true; END $$")
    world.run("ALTER TABLE lms.enrolments ENABLE ROW LEVEL SECURITY")
    world.run("CREATE POLICY reads ON lms.enrolments USING (public.reads())")


def refuse_reads(world: World) -> None:
    on_read(world, "RAISE EXCEPTION 'an enrolment was read';")


def scheduled(db: Database, world: World, count: int) -> int:
    return world.submit(db, [*world.enrolments(count), 999_999], effective_at=TOMORROW).id


def is_due(world: World, job_id: int) -> None:
    world.run("UPDATE withdrawals.jobs SET effective_at = now() WHERE id = :id", id=job_id)


def admit(db: Database, world: World, job_id: int) -> admission.Admission:
    is_due(world, job_id)
    work = lambda connection: admission.admit(  # noqa: E731
        connection, organisation_id=world.organisation_id, job_id=job_id
    )
    return db.run(work)


def learners(world: World, job_id: int) -> int | None:
    found: int | None = world.one("SELECT learners FROM withdrawals.jobs WHERE id = :id", id=job_id)
    return found


def limit(db: Database, world: World, floor: int) -> None:
    wanted = BrakeSetting(floor=floor, share=0.0)
    brake.set_limits(db, organisation_id=world.organisation_id, wanted=wanted, actor="test:approver")


def test_a_scheduled_job_is_admitted_without_a_look_at_its_enrolments(db: Database, world: World) -> None:
    """Counting a million took longer than a statement may, so the job was never admitted."""
    job_id = scheduled(db, world, 3)
    assert learners(world, job_id) == 3
    refuse_reads(world)
    assert admit(db, world, job_id).admitted
    assert brake.show(db, organisation_id=world.organisation_id).volume == 3
    world.run("ALTER TABLE lms.enrolments DISABLE ROW LEVEL SECURITY")
    assert_balanced(db)


def test_a_scheduled_job_is_held_by_the_number_that_was_counted(db: Database, world: World) -> None:
    """And when it is released, that number counts in the window."""
    job_id = scheduled(db, world, 3)
    limit(db, world, 2)
    refuse_reads(world)
    assert admit(db, world, job_id).held
    control.release(db, organisation_id=world.organisation_id, job_id=job_id, actor="test:approver")
    assert brake.show(db, organisation_id=world.organisation_id).volume == 3


def test_a_job_that_is_moved_keeps_the_number(db: Database, world: World) -> None:
    job_id = scheduled(db, world, 3)
    refuse_reads(world)
    for when in (TOMORROW + timedelta(days=1), datetime.now(UTC) - timedelta(hours=1)):
        control.move(db, organisation_id=world.organisation_id, job_id=job_id, effective_at=when, actor="x")
    assert job_state(world, job_id) == JobState.QUEUED
    assert learners(world, job_id) == 3


def test_a_scheduled_job_does_not_count_before_it_is_admitted(db: Database, world: World) -> None:
    scheduled(db, world, 3)
    assert brake.show(db, organisation_id=world.organisation_id).volume == 0


def test_a_large_job_of_an_older_version_is_counted_without_a_limit_of_time(
    db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy of the platform makes the count take longer than a statement may; afterwards the limit is back."""
    job_id = scheduled(db, world, 2)
    world.run("UPDATE withdrawals.jobs SET learners = NULL")
    is_due(world, job_id)
    monkeypatch.setattr(ledger, "AT_ONCE", 1)
    on_read(world, "PERFORM pg_sleep(0.4);")
    hurried = Database(environment.model_copy(update={"lease_seconds": 1.0}))
    with hurried.begin() as connection:
        before = connection.scalar(text("SHOW statement_timeout"))
        found = admission.admit(connection, organisation_id=world.organisation_id, job_id=job_id)
        assert found.admitted
        assert connection.scalar(text("SHOW statement_timeout")) == before == "500ms"
    hurried.close()
    assert learners(world, job_id) == 2
