"""The undo of a job over HTTP: roles, keys, tenants, the plan, what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database

Bearer = Callable[..., dict[str, str]]


@pytest.fixture
def job(db: Database, world: World, environment: Settings) -> int:
    """A job that has withdrawn three enrolments, one of which was made again since."""
    ids = world.enrolments(3)
    made = world.submit(db, ids)
    decide_due(db, environment)
    world.run(
        """INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status)
        SELECT organisation_id, learner_id, series_id, 'in_progress' FROM lms.enrolments WHERE id = :i""",
        i=ids[2],
    )
    return made.id


def test_an_operator_plans_and_takes_back_a_job(
    client: TestClient, bearer: Bearer, db: Database, world: World, environment: Settings, job: int
) -> None:
    who, path = bearer("operator"), f"/v1/jobs/{job}/reinstate"
    plan = client.post(f"{path}/plan", headers=who)
    assert plan.status_code == 200
    assert plan.json()["accepted"] == 3
    assert plan.json()["outcomes"] == {"enrolled_again": 1, "reinstated": 2}
    assert len(plan.json()["samples"]["reinstated"]) == 2
    assert client.get("/v1/jobs", headers=who).json()["items"][0]["id"] == job, "a plan writes nothing"

    made = client.post(path, json={"note": "agreed"}, headers={**who, "Idempotency-Key": "undo-1"})
    assert made.status_code == 202
    assert made.headers["location"] == f"/v1/jobs/{made.json()['id']}"
    again = client.post(path, json={"note": "agreed"}, headers={**who, "Idempotency-Key": "undo-1"})
    assert (again.status_code, again.json()["id"]) == (200, made.json()["id"])
    decide_due(db, environment)
    shown = client.get(made.headers["location"], headers=who).json()
    assert (shown["kind"], shown["reinstates"], shown["note"]) == ("reinstate", job, "agreed")
    assert (shown["state"], shown["outcomes"]) == ("completed_with_exceptions", plan.json()["outcomes"])
    assert client.get(f"/v1/jobs/{job}", headers=who).json()["reinstated"] == 2
    assert_balanced(db)

    other = client.post(path, json={"note": "else"}, headers={**who, "Idempotency-Key": "undo-1"})
    assert (other.status_code, other.json()["type"][-22:]) == (409, "idempotency_key_reused")
    twice = client.post(f"{made.headers['location']}/reinstate", headers={**who, "Idempotency-Key": "undo-2"})
    assert twice.status_code == 409


def test_a_filter_selects_a_part_and_its_faults_are_named(
    client: TestClient, bearer: Bearer, world: World, job: int
) -> None:
    who, path = {**bearer("operator"), "Idempotency-Key": "k"}, f"/v1/jobs/{job}/reinstate"
    enrolment = min(world.outcomes(job))
    faults: list[dict[str, Any]] = [
        {"ids": [1]},
        {"filter": {}},
        {"filter": {"status": []}},
        {"filter": {"series_id": "1"}},
    ]
    for wrong in faults:
        assert client.post(path, json=wrong, headers=who).status_code == 422
        assert client.post(f"{path}/plan", json=wrong, headers=who).status_code == 422
    assert client.post(path, json={"filter": {"enrolment_ids": [enrolment]}}, headers=who).json()["accepted"] == 1


def test_a_reinstate_needs_an_operator_a_key_and_a_job_of_their_organisation(
    client: TestClient, bearer: Bearer, world: World, job: int
) -> None:
    key = {"Idempotency-Key": "k"}
    theirs = bearer("approver", organisation_id=world.organisation("Other"))
    for end in ("reinstate", "reinstate/plan"):
        path = f"/v1/jobs/{job}/{end}"
        assert client.post(path, headers=key).status_code == 401
        assert client.post(path, headers={**bearer("viewer"), **key}).status_code == 403
        mine, missing = (client.post(f"/v1/jobs/{one}/{end}", headers={**theirs, **key}) for one in (job, 999))
        assert mine.status_code == missing.status_code == 404
        assert mine.json()["detail"].replace(f"job {job} ", "job 999 ") == missing.json()["detail"]
        assert client.post(f"/v1/jobs/{'9' * 30}/{end}", headers={**theirs, **key}).status_code == 422
    without = client.post(f"/v1/jobs/{job}/reinstate", headers=bearer("operator"))
    assert (without.status_code, without.json()["type"][-23:]) == (400, "idempotency_key_missing")
