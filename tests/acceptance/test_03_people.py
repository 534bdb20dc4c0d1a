"""Third: people. An HR system says that somebody left; the service finds out what that means for their enrolments."""

from collections.abc import Callable

from schemas.catalogue import JobState
from schemas.jobs import JobRequest
from tests.world import World, assert_balanced
from worker.database import Database
from worker.jobs.show import show
from worker.jobs.submit import submit
from worker.people.events import EventReceipt
from worker.records import Job

Ended = Callable[[Job], Job]


def job_of(db: Database, world: World, receipt: EventReceipt) -> Job:
    assert receipt.job_id is not None
    return show(db, organisation_id=world.organisation_id, job_id=receipt.job_id)


def test_a_person_who_leaves_loses_every_active_enrolment(
    service: None, db: Database, world: World, ended: Ended
) -> None:
    """Rule 7: the event names a person, not enrolments; the job finds them when it is decided. Ended ones stay."""
    active = [world.enrolment("anna", status) for status in ("waiting_to_start", "in_progress")]
    incomplete = world.enrolment("anna", "incomplete")
    job = ended(job_of(db, world, world.event(db, "deactivated", "anna")))
    assert (job.state, job.outcomes) == (JobState.COMPLETED, {"withdrawn": 2})
    assert {world.status(enrolment_id) for enrolment_id in active} == {"withdrawn"}
    assert world.status(incomplete) == "incomplete"
    assert not world.active("anna")
    assert_balanced(db)


def test_what_a_pathway_owns_is_left_for_support(service: None, db: Database, world: World, ended: Ended) -> None:
    """Rule 7: "Pathway-owned ones go to support; the job then ends as `completed_with_exceptions`"."""
    world.enrolment("anna")
    owned = world.enrolment("anna", pathway_id=world.pathway())
    job = ended(job_of(db, world, world.event(db, "deactivated", "anna")))
    assert job.state is JobState.COMPLETED_WITH_EXCEPTIONS
    assert job.accepted == 2
    assert job.outcomes == {"withdrawn": 1, "pathway_owned": 1}
    assert world.status(owned) == "in_progress"


def test_another_organisation_of_the_same_person_is_left_alone(
    service: None, db: Database, world: World, ended: Ended
) -> None:
    """Rule 7: "and only of that organisation"."""
    world.enrolment("anna")
    elsewhere = world.enrolment("anna", organisation_id=world.organisation("Other"))
    ended(job_of(db, world, world.event(db, "deactivated", "anna")))
    assert world.status(elsewhere) == "in_progress"
    rows = world.run("SELECT active FROM lms.learners WHERE external_id = 'anna' ORDER BY organisation_id")
    assert [row.active for row in rows] == [False, True]


def test_a_person_who_comes_back_in_time_keeps_their_enrolments(
    service: None, db: Database, world: World, ended: Ended
) -> None:
    """Rule 10: "a person who comes back before it is applied is not withdrawn (`superseded`)"."""
    enrolment_id = world.enrolment("anna")
    leaving = world.event(db, "deactivated", "anna", effective_at="2990-01-01T00:00:00Z")
    assert job_of(db, world, leaving).state is JobState.SCHEDULED
    world.event(db, "reactivated", "anna")
    assert ended(job_of(db, world, leaving)).state is JobState.SUPERSEDED
    assert world.status(enrolment_id) == "in_progress"
    assert world.active("anna")


def test_a_person_on_leave_may_be_withdrawn_and_stays_active(
    service: None, db: Database, world: World, ended: Ended
) -> None:
    """Rule 10: "may be withdrawn for `not_required`, and stays active: only a deactivation makes inactive"."""
    enrolment_id = world.enrolment("anna")
    request = JobRequest(reason="not_required", source="admin", learner_external_id="anna")
    job = ended(submit(db, world.requester(), request).job)
    assert job.state is JobState.COMPLETED
    assert world.status(enrolment_id) == "withdrawn"
    assert world.active("anna")
