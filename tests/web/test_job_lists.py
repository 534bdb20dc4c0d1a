"""Lists of jobs and filters of enrolments: each condition alone, against a job that it must leave out."""

from collections.abc import Callable
from datetime import timedelta

from starlette.testclient import TestClient

from tests.support.racing import take
from tests.world import World
from worker.database import Database
from worker.ledger import job_lists

Bearer = Callable[..., dict[str, str]]


def test_a_job_is_listed_as_running_once_a_chunk_of_it_has_begun(
    client: TestClient, bearer: Bearer, db: Database, world: World
) -> None:
    begun, waiting = (world.submit(db, world.enrolments(1)).id for _ in range(2))
    take(db, budget=1)

    def listed(state: str) -> list[int]:
        answer = client.get("/v1/jobs", params={"state": state}, headers=bearer("viewer"))
        return [job["id"] for job in answer.json()["items"]]

    assert (listed("running"), listed("queued"), listed("completed")) == ([begun], [waiting], [])


def test_jobs_are_listed_by_when_they_were_created(
    client: TestClient, bearer: Bearer, db: Database, world: World
) -> None:
    old, new = (world.submit(db, world.enrolments(1)) for _ in range(2))
    world.run("UPDATE withdrawals.jobs SET created_at = created_at - interval '1 day' WHERE id = :i", i=old.id)
    noon = (new.created_at - timedelta(hours=12)).isoformat()

    def listed(condition: str) -> list[int]:
        answer = client.get("/v1/jobs", params={condition: noon}, headers=bearer("viewer"))
        return [job["id"] for job in answer.json()["items"]]

    assert (listed("created_after"), listed("created_before")) == ([new.id], [old.id])


def test_a_filter_by_pathway_finds_what_that_pathway_owns(
    client: TestClient, bearer: Bearer, db: Database, world: World
) -> None:
    pathway = world.pathway("Onboarding")
    world.enrolment("anna", pathway_id=pathway)
    world.enrolment("anna", pathway_id=world.pathway("Other"))
    world.enrolment("anna")
    body = {"reason": "not_required", "filter": {"pathway_id": pathway}}
    answer = client.post("/v1/jobs/plan", json=body, headers=bearer("operator"))
    assert (answer.status_code, answer.json()["outcomes"]) == (200, {"pathway_owned": 1})


def test_one_job_reads_the_same_alone_and_in_a_list(db: Database, world: World) -> None:
    """The one is text and the other composed; both say what a job is."""
    owned = world.enrolment(pathway_id=world.pathway())
    made = [world.submit(db, [*world.enrolments(2), owned]), world.submit(db, world.enrolments(1))]
    take(db, budget=1)
    with db.begin() as connection:
        listed = job_lists.find_jobs(connection, [job.id for job in made])
        alone = [job_lists.find_job(connection, world.organisation_id, job.id) for job in made]
    assert sorted(listed, key=lambda job: job.id) == alone
