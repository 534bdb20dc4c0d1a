"""Fifth: a job can be stopped before it is done."""

from schemas.catalogue import JobState
from tests.world import World, assert_balanced
from worker.database import Database
from worker.jobs.control import cancel


def test_a_job_for_later_waits_as_scheduled(db: Database, world: World) -> None:
    """`effective_at` says when a job takes effect; until then nothing of it is decided."""
    job = world.submit(db, world.enrolments(7), effective_at="2100-01-01T00:00:00Z")
    assert job.state is JobState.SCHEDULED
    assert (job.outcomes, job.in_flight) == ({}, 7)


def test_what_is_cancelled_before_its_time_is_counted_and_stays_undone(
    service: None, db: Database, world: World
) -> None:
    """A cancel closes whatever is not decided yet; each of those ids counts as `cancelled`, so the books balance."""
    ids = world.enrolments(7)
    job = world.submit(db, ids, effective_at="2100-01-01T00:00:00Z")
    job = cancel(db, organisation_id=world.organisation_id, job_id=job.id, actor="test:admin", note="a mistake")
    assert job.state is JobState.CANCELLED
    assert job.outcomes == {"cancelled": 7}
    assert job.in_flight == 0
    assert {world.status(enrolment_id) for enrolment_id in ids} == {"in_progress"}
    assert_balanced(db)
