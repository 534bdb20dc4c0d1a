"""The story of a request, from first to last, as its users live it. Read it top to bottom."""

import threading
from collections.abc import Iterator

import dramatiq
import pytest

from ops.local.supervisor import Supervisor, procfile_commands
from schemas.catalogue import JobState
from schemas.jobs import FileRequest, Filter, JobRequest
from tests.world import World, assert_balanced, eventually
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies
from worker.jobs import plan
from worker.jobs.control import cancel
from worker.jobs.show import show
from worker.jobs.submit import Requester, submit
from worker.queue.broker import ACTOR, QUEUE, make_broker
from worker.queue.middleware import Lifecycle
from worker.queue.relay import Relay
from worker.records import Job


@pytest.fixture
def processes(environment: Settings) -> Iterator[None]:
    """Worker and relay as real processes, as `withdrawals up` runs them."""
    commands = {name: command for name, command in procfile_commands().items() if name != "web"}
    with Supervisor(commands):
        yield


@pytest.fixture
def service(environment: Settings, db: Database) -> Iterator[None]:
    """The same parts in threads of this process, which is quicker to start and to stop."""
    url = environment.broker_url.get_secret_value()
    lifecycle = Lifecycle(environment)
    broker = make_broker(url, [lifecycle])

    @dramatiq.actor(actor_name=ACTOR, queue_name=QUEUE, broker=broker)
    def work_off() -> None:
        lifecycle.drain.run()

    broker.emit_after("process_boot")
    worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=100)
    worker.start()
    relay = Relay(db, make_broker(url), environment)
    thread = threading.Thread(target=relay.run)
    thread.start()
    yield
    relay.stop()
    worker.stop()
    thread.join()
    broker.close()


def ended(db: Database, world: World, job: Job) -> Job:
    """The job, once it has ended."""

    def look() -> Job | None:
        found = show(db, organisation_id=world.organisation_id, job_id=job.id)
        return found if found.finished_at is not None else None

    return eventually(look, what=f"job {job.id} ends")


def test_a_request_from_the_door_to_the_books(processes: None, db: Database, world: World) -> None:
    # An administrator has a list: active ones, an ended one, one of a pathway, one that does not exist.
    active = [world.enrolment("anna"), world.enrolment("ben", "not_signed_in")]
    mastered = world.enrolment("anna", "mastered")
    pathway = world.pathway("Onboarding")
    owned = world.enrolment("ben", pathway_id=pathway)
    sibling = world.enrolment("ben", "no_attempts", pathway_id=pathway)
    ids = [*active, mastered, owned, 999_999, active[0]]

    # Before anything happens, a plan: the same rules, nothing written.
    dry = plan.of_file(db, world.organisation_id, FileRequest(reason="not_required"), enumerate(ids, 2))
    assert dry.outcomes == {"withdrawn": 2, "enrolment_ended": 1, "pathway_owned": 1, "not_found": 1}
    assert dry.duplicates == 1
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 0

    # The request is accepted, once: sent again with its key it is the same job.
    requester = Requester(world.organisation_id, "test:admin", "api", "order-4711")
    request = JobRequest(reason="not_required", note="course closed", enrolment_ids=ids)
    accepted = submit(db, requester, request)
    again = submit(db, requester, request)
    assert (accepted.created, again.created) == (True, False)
    assert accepted.job.id == again.job.id
    assert (accepted.job.accepted, accepted.job.duplicates) == (5, 1)

    # It ends, and says what happened to each: never a clean success when something is left over.
    job = ended(db, world, accepted.job)
    assert job.state is JobState.COMPLETED_WITH_EXCEPTIONS
    assert job.outcomes == dry.outcomes
    assert job.in_flight == 0
    assert job.open_dead_letters == 2
    seen = [world.status(enrolment_id) for enrolment_id in [*active, mastered, owned]]
    assert seen == ["withdrawn", "withdrawn", "mastered", "in_progress"]

    # Rule 3: reason, time and who asked stand with the enrolment; progress and history stay.
    row = world.run(
        "SELECT withdrawal_reason, withdrawn_by, withdrawn_at FROM lms.enrolments WHERE id = :i", i=active[0]
    )[0]
    assert (row[0], row[1]) == ("not_required", "test:admin")
    assert row[2] is not None

    # Support sees at once why, with the pathway, its siblings and the remedies named (rule 6) …
    letter_id = next(letter.id for letter in world.letters() if letter.enrolment_id == owned)
    letter = remedies.show(db, organisation_id=world.organisation_id, letter_id=letter_id)
    assert letter.code == "pathway_owned"
    assert letter.evidence["pathway_title"] == "Onboarding"
    assert [item["id"] for item in letter.evidence["now"]["siblings"]] == [sibling]
    assert {"override", "keep"} <= set(remedies.remedies(letter.code))

    # … and decides. The letter closes with what the attempt found; the job's past does not change.
    remedies.resolve(
        db,
        organisation_id=world.organisation_id,
        letter_ids=[letter_id],
        remedy="override",
        actor="test:approver",
        note="agreed with the pathway's owner",
    )
    eventually(
        lambda: remedies.show(db, organisation_id=world.organisation_id, letter_id=letter_id).state == "resolved"
    )
    assert world.status(owned) == "withdrawn"
    assert world.status(sibling) == "no_attempts"
    job = show(db, organisation_id=world.organisation_id, job_id=job.id)
    assert job.state is JobState.COMPLETED_WITH_EXCEPTIONS
    assert job.outcomes == {"withdrawn": 3, "enrolment_ended": 1, "not_found": 1}
    assert job.open_dead_letters == 1
    assert_balanced(db)


def test_a_person_who_leaves_loses_every_active_enrolment_of_that_organisation_alone(
    service: None, db: Database, world: World
) -> None:
    """Rule 7, from the event to the end."""
    mine = [world.enrolment("anna", status) for status in ("waiting_to_start", "in_progress")]
    done = world.enrolment("anna", "incomplete")
    owned = world.enrolment("anna", pathway_id=world.pathway())
    elsewhere = world.enrolment("anna", organisation_id=world.organisation("Other"))
    receipt = world.event(db, "deactivated", "anna")
    assert receipt.job_id is not None
    job = ended(db, world, show(db, organisation_id=world.organisation_id, job_id=receipt.job_id))
    assert job.state is JobState.COMPLETED_WITH_EXCEPTIONS
    assert job.accepted == 3
    assert job.outcomes == {"withdrawn": 2, "pathway_owned": 1}
    assert {world.status(enrolment_id) for enrolment_id in mine} == {"withdrawn"}
    assert world.status(done) == "incomplete"
    assert {world.status(owned), world.status(elsewhere)} == {"in_progress"}
    active = world.run("SELECT organisation_id, active FROM lms.learners WHERE external_id = 'anna' ORDER BY 1")
    assert [row.active for row in active] == [False, True]
    assert_balanced(db)


def test_a_person_on_leave_may_be_withdrawn_and_stays_active(service: None, db: Database, world: World) -> None:
    """Rule 10: "may be withdrawn for `not_required`, and stays active: only a deactivation makes inactive"."""
    enrolment_id = world.enrolment("anna")
    request = JobRequest(reason="not_required", source="admin", learner_external_id="anna")
    job = ended(db, world, submit(db, world.requester(), request).job)
    assert job.state is JobState.COMPLETED
    assert world.status(enrolment_id) == "withdrawn"
    assert world.active("anna")


def test_a_learner_may_be_enrolled_in_the_same_series_again_after_a_withdrawal(
    service: None, db: Database, world: World
) -> None:
    """Rule 3: "The learner may be enrolled in the same Series again later"."""
    first = world.enrolment("anna")
    ended(db, world, world.submit(db, [first]))
    second = world.one(
        """INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status)
        SELECT organisation_id, learner_id, series_id, 'waiting_to_start' FROM lms.enrolments WHERE id = :i
        RETURNING id""",
        i=first,
    )
    ended(db, world, world.submit(db, [second]))
    assert world.status(second) == "withdrawn"
    assert_balanced(db)


def test_an_overdue_enrolment_is_active_and_resource_access_stays(service: None, db: Database, world: World) -> None:
    """Rule 2: "An overdue enrolment that is still active is active"; rule 4: "no code path writes resource access"."""
    enrolment_id = world.enrolment("anna")
    world.run("UPDATE lms.enrolments SET due_at = now() - interval '1 year' WHERE id = :i", i=enrolment_id)
    world.run(
        "INSERT INTO lms.resource_access (learner_id, series_id) SELECT learner_id, series_id FROM lms.enrolments"
    )
    before = world.run("SELECT * FROM lms.resource_access")
    job = ended(db, world, world.submit(db, [enrolment_id]))
    assert job.outcomes == {"withdrawn": 1}
    assert world.run("SELECT * FROM lms.resource_access") == before


def test_a_filter_is_frozen_into_ids_when_it_is_accepted(service: None, db: Database, world: World) -> None:
    """A job is what was asked for at that moment; an enrolment that matches later is not part of it."""
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
    job = ended(db, world, job)
    assert job.outcomes == {"withdrawn": 25}
    assert world.status(late) == "in_progress"


def test_what_is_cancelled_before_its_time_is_counted_and_stays_undone(
    service: None, db: Database, world: World
) -> None:
    ids = world.enrolments(7)
    job = world.submit(db, ids, effective_at="2100-01-01T00:00:00Z")
    assert job.state is JobState.SCHEDULED
    job = cancel(db, organisation_id=world.organisation_id, job_id=job.id, actor="test:admin", note="a mistake")
    assert job.state is JobState.CANCELLED
    assert job.outcomes == {"cancelled": 7}
    assert job.in_flight == 0
    assert {world.status(enrolment_id) for enrolment_id in ids} == {"in_progress"}
    assert_balanced(db)
