"""First: what a job is. Somebody asks for many withdrawals at once, and learns what became of each.

Start here. The files of this folder are read in the order of their numbers, each from top to bottom. `world` is a small
learning platform, `db` the service's database, and `service` a worker and a relay that run beside the test.
"""

from collections.abc import Callable

from schemas.catalogue import JobState
from schemas.jobs import FileRequest, Filter, JobRequest
from tests.world import World, assert_balanced, id_file
from worker.database import Database
from worker.jobs.files.submit import plan_file
from worker.jobs.submit import Requester, submit
from worker.records import Job

Ended = Callable[[Job], Job]


def test_a_job_withdraws_a_list_of_enrolments(service: None, db: Database, world: World, ended: Ended) -> None:
    """A job names enrolments by id and has one reason for all of them (rule 5).

    `submit` writes the job and returns at once; a worker decides later. A job whose every enrolment was withdrawn
    ends as `completed`.
    """
    ids = [world.enrolment("anna"), world.enrolment("ben", "not_signed_in")]
    accepted = submit(db, world.requester(), JobRequest(reason="not_required", enrolment_ids=ids)).job
    job = ended(accepted)
    assert job.state is JobState.COMPLETED
    assert job.outcomes == {"withdrawn": 2}
    assert [world.status(enrolment_id) for enrolment_id in ids] == ["withdrawn", "withdrawn"]


def test_every_enrolment_of_a_job_gets_an_outcome(service: None, db: Database, world: World, ended: Ended) -> None:
    """What cannot be withdrawn is not left out in silence: it has an outcome that says why.

    A job with any such outcome ends as `completed_with_exceptions`, never as a clean success.
    """
    active, mastered = world.enrolment("anna"), world.enrolment("anna", "mastered")
    owned = world.enrolment("ben", pathway_id=world.pathway("Onboarding"))
    job = ended(world.submit(db, [active, mastered, owned, 999_999]))
    assert job.state is JobState.COMPLETED_WITH_EXCEPTIONS
    assert job.in_flight == 0
    assert job.open_dead_letters == 2
    assert world.outcomes(job.id) == {
        active: "withdrawn",
        mastered: "enrolment_ended",
        owned: "pathway_owned",
        999_999: "not_found",
    }
    assert [world.status(enrolment_id) for enrolment_id in (mastered, owned)] == ["mastered", "in_progress"]


def test_the_same_request_with_the_same_key_is_the_same_job(db: Database, world: World) -> None:
    """Who got no answer asks again without fear: an idempotency key makes one job, however often it comes."""
    requester = Requester(world.organisation_id, "test:admin", "api", "order-4711")
    request = JobRequest(reason="not_required", note="course closed", enrolment_ids=world.enrolments(2))
    first, again = submit(db, requester, request), submit(db, requester, request)
    assert (first.created, again.created) == (True, False)
    assert first.job.id == again.job.id


def test_an_enrolment_that_is_named_twice_counts_once(db: Database, world: World) -> None:
    """Lists of people have duplicates. They are dropped, and the job says how many there were."""
    one, other = world.enrolments(2)
    job = world.submit(db, [one, other, one])
    assert (job.accepted, job.duplicates) == (2, 1)


def test_a_plan_says_what_a_job_would_do_and_writes_nothing(
    service: None, db: Database, world: World, ended: Ended
) -> None:
    """A dry run decides by the same rules as the job itself, so an administrator sees the outcomes beforehand."""
    active, mastered = world.enrolment("anna"), world.enrolment("anna", "mastered")
    owned = world.enrolment("ben", pathway_id=world.pathway())
    ids = [active, mastered, owned, 999_999, active]
    found = plan_file(db, world.organisation_id, FileRequest(reason="not_required"), id_file(ids)).plan
    assert found is not None
    assert found.outcomes == {"withdrawn": 1, "enrolment_ended": 1, "pathway_owned": 1, "not_found": 1}
    assert found.duplicates == 1
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 0
    assert ended(world.submit(db, ids)).outcomes == found.outcomes


def test_a_filter_is_frozen_into_ids_when_it_is_accepted(
    service: None, db: Database, world: World, ended: Ended
) -> None:
    """A job is what was asked for at that moment: an enrolment that matches the filter later is not part of it."""
    ids = world.enrolments(25)
    series = world.one("SELECT series_id FROM lms.enrolments WHERE id = :i", i=ids[0])
    request = JobRequest(reason="not_required", filter=Filter(series_id=series))
    job = submit(db, world.requester(), request, chunk_size=10).job
    late = world.one(
        """INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status)
        VALUES (:o, :l, :s, 'in_progress') RETURNING id""",
        o=world.organisation_id,
        l=world.learner("late"),
        s=series,
    )
    assert ended(job).outcomes == {"withdrawn": 25}
    assert world.status(late) == "in_progress"


def test_the_books_balance(service: None, db: Database, world: World, ended: Ended) -> None:
    """Every accepted id is counted exactly once at any time: it has an outcome, or it waits to be decided.

    `withdrawals check` compares both sides. The tests of this suite end with it: a difference of one is a defect.
    """
    job = world.submit(db, [*world.enrolments(3), 999_999], chunk_size=2)
    assert_balanced(db)
    ended(job)
    assert_balanced(db)
