"""Last: the same request with real processes, as production runs them, from the plan to the decision of support."""

from collections.abc import Callable

import pytest

from schemas.catalogue import JobState
from schemas.jobs import FileRequest, JobRequest
from tests.world import World, assert_balanced, eventually, id_file
from worker.database import Database
from worker.dead_letters import remedies
from worker.jobs.files.submit import plan_file
from worker.jobs.show import show
from worker.jobs.submit import Requester, submit
from worker.records import Job

Ended = Callable[[Job], Job]


@pytest.mark.long
def test_a_request_from_the_door_to_the_books(processes: None, db: Database, world: World, ended: Ended) -> None:
    """Every step of the files before this one, in one story: planned, accepted once, decided, resolved, balanced.

    Small: real processes serve test_11_a_link_in_a_mail.py, and each step has its file before this one.
    """
    active = [world.enrolment("anna"), world.enrolment("ben", "not_signed_in")]
    mastered = world.enrolment("anna", "mastered")
    owned = world.enrolment("ben", pathway_id=world.pathway("Onboarding"))
    ids = [*active, mastered, owned, 999_999, active[0]]
    dry = plan_file(db, world.organisation_id, FileRequest(reason="not_required"), id_file(ids)).plan
    assert dry is not None

    requester = Requester(world.organisation_id, "test:admin", "api", "order-4711")
    request = JobRequest(reason="not_required", note="course closed", enrolment_ids=ids)
    accepted, again = submit(db, requester, request), submit(db, requester, request)
    assert accepted.job.id == again.job.id
    assert (accepted.job.accepted, accepted.job.duplicates) == (5, 1)

    job = ended(accepted.job)
    assert job.state is JobState.COMPLETED_WITH_EXCEPTIONS
    assert job.outcomes == dry.outcomes == {"withdrawn": 2, "enrolment_ended": 1, "pathway_owned": 1, "not_found": 1}

    here = world.organisation_id
    letter_id = next(letter.id for letter in world.letters() if letter.enrolment_id == owned)
    act = {"remedy": "override", "actor": "test:approver", "note": "agreed with the pathway's owner"}
    remedies.resolve(db, organisation_id=here, letter_ids=[letter_id], **act)
    eventually(lambda: remedies.show(db, organisation_id=here, letter_id=letter_id).state == "resolved")
    assert world.status(owned) == "withdrawn"
    assert show(db, organisation_id=here, job_id=job.id).outcomes == {
        "withdrawn": 3,
        "enrolment_ended": 1,
        "not_found": 1,
    }
    assert_balanced(db)
