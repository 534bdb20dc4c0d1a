"""A plan names the held jobs that would lose what they wait for, and looks at a bounded number of them."""

from collections.abc import Iterator

import pytest

from schemas.control import BrakeSetting
from schemas.jobs import FileRequest, Filter, JobRequest
from tests.support.costs import counting
from tests.world import World, id_file
from worker.database import Database
from worker.jobs import brake, held, plan
from worker.jobs.files.submit import plan_file
from worker.jobs.submit import submit
from worker.ledger import held_jobs
from worker.records import Job


@pytest.fixture(autouse=True)
def everything_is_held(db: Database, world: World) -> None:
    setting = BrakeSetting(floor=0, share=0.0)
    brake.set_limits(db, organisation_id=world.organisation_id, wanted=setting, actor="test:approver")


def ask(db: Database, world: World, **selection: object) -> Job:
    request = JobRequest.model_validate({"reason": "not_required", **selection})
    job = submit(db, world.requester(f"key-{selection}"), request, chunk_size=2).job
    assert job.state == "held"
    return job


def plan_of(db: Database, world: World, **selection: object) -> list[tuple[int, int]]:
    request = JobRequest.model_validate({"reason": "not_required", **selection})
    found = plan.of_request(db, world.organisation_id, request)
    assert not found.more_held
    return [(one.job_id, one.enrolments) for one in found.waiting]


def test_a_plan_by_any_door_names_the_held_jobs_with_the_same_enrolments(db: Database, world: World) -> None:
    ids = [*world.enrolments(6), world.enrolment("anna"), world.enrolment("anna", "mastered")]
    first = ask(db, world, enrolment_ids=ids[:5])
    second = ask(db, world, enrolment_ids=ids[4:6])
    person = ask(db, world, learner_external_id="anna")
    world.run("UPDATE lms.enrolments SET status = 'withdrawn' WHERE id = :id", id=ids[0])
    everything = [(first.id, 4), (second.id, 2), (person.id, 1)]
    assert plan_of(db, world, enrolment_ids=ids) == everything
    assert plan_of(db, world, filter={"status": ["in_progress"]}) == everything
    request = FileRequest(reason="not_required")
    in_file = plan_file(db, world.organisation_id, request, id_file(ids)).plan
    assert in_file is not None
    assert [(one.job_id, one.enrolments) for one in in_file.waiting] == everything
    assert plan_of(db, world, learner_external_id="anna") == [(person.id, 1)]
    assert plan_of(db, world, enrolment_ids=ids[:1]) == [], "it is withdrawn already"
    assert plan_of(db, world, enrolment_ids=[ids[5]]) == [(second.id, 1)]
    for job in (first, person):
        found = plan.of_job(db, world.organisation_id, job.id)
        assert (found.waiting, found.more_held) == ([], False), "a job does not wait for itself"
    elsewhere = world.organisation("Other")
    found = plan.of_request(db, elsewhere, JobRequest(reason="not_required", enrolment_ids=ids))
    assert (found.waiting, found.more_held) == ([], False)


def test_what_a_held_job_would_do_now_is_counted_by_the_rules(db: Database, world: World) -> None:
    ids = [*world.enrolments(3), world.enrolment("anna"), 999_999]
    listed, person = ask(db, world, enrolment_ids=[*ids[:3], ids[4]]), ask(db, world, learner_external_id="anna")

    elsewhere = world.organisation("Other")

    def say() -> list[str]:
        with db.begin() as connection:
            found = held.find_now(connection, world.organisation_id, [listed.id, person.id])
            assert held.find_now(connection, elsewhere, [listed.id]) == {}
        return [found[job.id].now for job in (listed, person)]

    assert say() == [
        "Now it would withdraw 3 of 4 enrolments; the others: 1 not found.",
        "Now it would withdraw 1 enrolment.",
    ]
    world.run("UPDATE lms.enrolments SET status = 'withdrawn' WHERE id = ANY(:ids)", ids=ids[1:4])
    assert say() == [
        "Now it would withdraw 1 of 4 enrolments; the others: 2 already withdrawn, 1 not found.",
        "Now it would withdraw nothing: the learner has no active enrolment.",
    ]


def test_a_plan_shows_some_of_what_waits_with_its_series_of_the_jobs_that_name_the_most(
    db: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "HELD_WITH_SAMPLES", 2)
    ids = world.enrolments(9)
    owned = world.enrolment("olga", pathway_id=world.pathway("Onboarding"))
    most, few, one = (ask(db, world, enrolment_ids=some) for some in ([*ids[:7], owned], ids[6:9], ids[8:9]))
    asked = JobRequest(reason="not_required", enrolment_ids=[*ids, owned])
    found = plan.of_request(db, world.organisation_id, asked).waiting
    assert [(waits.job_id, waits.enrolments) for waits in found] == [(most.id, 7), (few.id, 3), (one.id, 1)]
    shown = [[sample.enrolment_id for sample in waits.samples] for waits in found]
    assert len(shown[0]) == 5
    assert set(shown[0]) < set(ids[:7]), "what a pathway owns would not be withdrawn"
    assert shown[1:] == [ids[6:9], []]
    title = world.one(
        "SELECT s.title FROM lms.enrolments e JOIN lms.series s ON s.id = e.series_id WHERE e.id = :id", id=ids[0]
    )
    assert {sample.series_title for waits in found[:2] for sample in waits.samples} == {title}


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(held_jobs, "MOST_JOBS", 3)
    monkeypatch.setattr(held_jobs, "MOST", 8)
    yield


@pytest.mark.counts
@pytest.mark.usefixtures("few_at_once")
def test_a_plan_reads_no_more_the_more_jobs_are_held_and_says_that_there_are_more(db: Database, world: World) -> None:
    ids = world.enrolments(12)
    asked = JobRequest(reason="not_required", enrolment_ids=ids)
    made = [ask(db, world, enrolment_ids=[one]) for one in ids[:3]]
    found = plan.of_request(db, world.organisation_id, asked)
    assert ([one.job_id for one in found.waiting], found.more_held) == ([job.id for job in made], False)
    reads = []
    for more in (1, 200):
        made += [ask(db, world, enrolment_ids=[*ids[:3], 1000 + len(made) + one]) for one in range(more)]
        with counting(db) as costs:
            found = plan.of_request(db, world.organisation_id, asked)
        assert found.more_held
        reads.append(costs.rows_read)
    assert [one.job_id for one in found.waiting] == [made[-2].id, made[-1].id], "the third is beyond what is counted"
    assert reads[1] <= reads[0] * 1.5 + 100, reads
    with db.begin() as connection:
        now = held.find_now(connection, world.organisation_id, [job.id for job in made])
    assert list(now) == [job.id for job in made[:4]], "the first that fit"


@pytest.mark.counts
def test_a_plan_looks_once_at_what_held_jobs_name(db: Database, world: World) -> None:
    """Nothing knows yet how many rows there are: the tables have no statistics."""
    asked, reads = JobRequest(reason="not_required", filter=Filter(status=["in_progress"])), []
    for size in (400, 4000):
        ids = world.enrolments(size)
        request = JobRequest(reason="not_required", enrolment_ids=ids)
        held_job = submit(db, world.requester(f"all {size}"), request, chunk_size=100).job
        with counting(db) as costs:
            found = plan.of_request(db, world.organisation_id, asked)
        assert {one.job_id: one.enrolments for one in found.waiting}[held_job.id] == size
        reads.append(costs.rows_read)
    assert reads[1] <= reads[0] * 11 * 1.5, reads
