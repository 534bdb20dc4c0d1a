"""Pause, resume, move, release and plan over HTTP; the brake's limits; metrics."""

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from schemas.control import BrakeSetting
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.jobs import brake

Bearer = Callable[..., dict[str, str]]
PROBLEM = "urn:withdrawals:problem:"


def limit(db: Database, world: World, floor: int) -> None:
    wanted = BrakeSetting(floor=floor, share=0.0)
    brake.set_limits(db, organisation_id=world.organisation_id, wanted=wanted, actor="test:approver")


def test_a_job_is_paused_and_resumed_and_asking_twice_changes_nothing(
    client: TestClient, bearer: Bearer, db: Database, world: World, environment: Settings
) -> None:
    operator = bearer("operator", name="Olga")
    job = world.submit(db, world.enrolments(3))
    for _ in range(2):
        answer = client.post(f"/v1/jobs/{job.id}/pause", headers=operator, json={"note": "month's end"})
        assert (answer.status_code, answer.json()["state"]) == (200, "paused")
    decide_due(db, environment)
    assert client.get(f"/v1/jobs/{job.id}", headers=operator).json()["outcomes"] == {}
    for _ in range(2):
        assert client.post(f"/v1/jobs/{job.id}/resume", headers=operator).json()["state"] == "queued"
    decide_due(db, environment)
    assert client.get(f"/v1/jobs/{job.id}", headers=operator).json()["outcomes"] == {"withdrawn": 3}
    acts = world.run(
        "SELECT actor, action, note FROM withdrawals.audit WHERE action IN ('job.pause', 'job.resume') ORDER BY id"
    )
    assert [tuple(row) for row in acts] == [
        ("token:Olga", "job.pause", "month's end"),
        ("token:Olga", "job.resume", None),
    ]
    assert_balanced(db)


def test_jobs_are_listed_by_each_condition_and_by_several(
    client: TestClient, bearer: Bearer, db: Database, world: World, environment: Settings
) -> None:
    done = world.submit(db, world.enrolments(1))
    decide_due(db, environment)
    paused = world.submit(db, world.enrolments(1), source="admin")
    viewer, producer = bearer("viewer"), bearer("producer", name="feed")
    client.post(f"/v1/jobs/{paused.id}/pause", headers=bearer("operator"))
    limit(db, world, 0)
    body = {"reason": "not_required", "enrolment_ids": world.enrolments(1)}
    held = client.post("/v1/jobs", headers=producer | {"Idempotency-Key": "k"}, json=body).json()

    def ids(headers: dict[str, str], **conditions: str) -> list[int]:
        answer = client.get("/v1/jobs", params=conditions, headers=headers)
        assert answer.status_code == 200, answer.text
        return [job["id"] for job in answer.json()["items"]]

    assert ids(viewer) == [held["id"], paused.id, done.id]
    assert ids(viewer, state="paused") == [paused.id]
    assert ids(viewer, source="admin") == [paused.id]
    assert ids(viewer, requested_by="token:feed") == [held["id"]]
    assert ids(viewer, held_because="brake") == [held["id"]]
    assert ids(viewer, created_after=paused.created_at.isoformat()) == [held["id"]]
    assert ids(viewer, created_before=paused.created_at.isoformat()) == [done.id]
    assert ids(viewer, source="admin", state="held") == []
    assert ids(producer) == ids(producer, requested_by="token:feed") == [held["id"]]
    assert ids(producer, requested_by="test:admin") == [], "a producer sees its own alone"
    assert client.get("/v1/jobs", params={"source": "x"}, headers=viewer).status_code == 422
    assert client.get("/v1/jobs", params={"limit": "0"}, headers=viewer).status_code == 422


def test_an_act_that_the_state_does_not_allow_is_refused_with_the_reason(
    client: TestClient, bearer: Bearer, db: Database, world: World, environment: Settings
) -> None:
    approver = bearer("approver")
    done = world.submit(db, world.enrolments(1))
    decide_due(db, environment)
    ahead = world.submit(db, world.enrolments(1), effective_at="2990-01-01T00:00:00Z")
    queued = world.submit(db, world.enrolments(1))
    limit(db, world, 0)
    held = world.submit(db, world.enrolments(1))
    later = {"effective_at": "2991-01-01T00:00:00Z"}
    for job, act, why in (
        (done, "pause", "has ended"),
        (done, "resume", "has ended"),
        (done, "release", "has ended"),
        (ahead, "pause", "has not begun"),
        (ahead, "release", "not held"),
        (held, "pause", "is held"),
        (held, "resume", "is held"),
        (queued, "release", "not held"),
    ):
        answer = client.post(f"/v1/jobs/{job.id}/{act}", headers=approver)
        assert (answer.status_code, answer.json()["type"]) == (409, PROBLEM + "conflict"), (job.state, act)
        assert why in answer.json()["detail"]
    for job, why in ((done, "has ended"), (queued, "its time has come")):
        answer = client.patch(f"/v1/jobs/{job.id}", headers=approver, json=later)
        assert answer.status_code == 409
        assert why in answer.json()["detail"]
    answer = client.get(f"/v1/jobs/{done.id}/plan", headers=approver)
    assert answer.status_code == 409


def test_a_scheduled_job_is_moved_and_one_moved_into_the_past_is_due_at_once(
    client: TestClient, bearer: Bearer, db: Database, world: World, environment: Settings
) -> None:
    operator = bearer("operator")
    world.run("UPDATE lms.organisations SET timezone = 'Europe/Vienna' WHERE id = :o", o=world.organisation_id)
    job = world.submit(db, world.enrolments(1), effective_at="2990-01-01T00:00:00Z")
    for _ in range(2):
        moved = client.patch(f"/v1/jobs/{job.id}", headers=operator, json={"effective_at": "2990-07-01"}).json()
        assert (moved["state"], moved["effective_at"]) == ("scheduled", "2990-07-01T22:00:00Z"), "that day's end there"
    assert world.one("SELECT count(*) FROM withdrawals.audit WHERE action = 'job.move'") == 1
    found = client.get("/v1/jobs", headers=operator, params={"state": "scheduled"}).json()["items"]
    assert [one["id"] for one in found] == [job.id]
    moved = client.patch(f"/v1/jobs/{job.id}", headers=operator, json={"effective_at": "2020-01-01"}).json()
    assert moved["state"] == "queued"
    decide_due(db, environment)
    assert client.get(f"/v1/jobs/{job.id}", headers=operator).json()["state"] == "completed"
    limit(db, world, 0)
    job = world.submit(db, world.enrolments(1), effective_at="2990-01-01T00:00:00Z")
    moved = client.patch(f"/v1/jobs/{job.id}", headers=operator, json={"effective_at": "2020-01-01"}).json()
    assert moved["state"] == "held", "it is admitted as any other, and the brake looks at it"
    for body in ({}, {"effective_at": None}, {"effective_at": "soon"}, {"effective_at": "9999-12-31"}, {"at": 1}):
        assert client.patch(f"/v1/jobs/{job.id}", headers=operator, json=body).status_code == 422, body
    assert_balanced(db)


def test_a_deactivation_keeps_the_time_of_its_event(
    client: TestClient, bearer: Bearer, db: Database, world: World
) -> None:
    world.enrolment("anna")
    job_id = world.event(db, "deactivated", "anna", effective_at="2990-01-01T00:00:00Z").job_id
    answer = client.patch(f"/v1/jobs/{job_id}", headers=bearer("operator"), json={"effective_at": "2020-01-01"})
    assert answer.status_code == 409
    assert "HR system" in answer.json()["detail"]


def test_a_held_job_says_why_and_another_approver_releases_it(
    client: TestClient, bearer: Bearer, db: Database, world: World, environment: Settings
) -> None:
    one, two = bearer("approver", name="One"), bearer("approver", name="Two")
    limit(db, world, 1)
    world.run("UPDATE withdrawals.jobs SET requested_by = 'token:One'")
    held = world.submit(db, world.enrolments(2))
    world.run("UPDATE withdrawals.jobs SET requested_by = 'token:One' WHERE id = :id", id=held.id)
    shown = client.get(f"/v1/jobs/{held.id}", headers=one).json()
    assert (shown["state"], shown["held_because"], shown["brake"]["learners"]) == ("held", "brake", 2)
    assert "approver" in shown["held_why"]
    planned = client.get(f"/v1/jobs/{held.id}/plan", headers=two).json()
    assert (planned["outcomes"], planned["brake"]) == ({"withdrawn": 2}, True)
    own = client.post(f"/v1/jobs/{held.id}/release", headers=one)
    assert (own.status_code, own.json()["type"]) == (403, PROBLEM + "own_job")
    released = client.post(f"/v1/jobs/{held.id}/release", headers=two).json()
    assert (released["state"], released["held_because"], released["held_why"]) == ("queued", None, None)
    held = world.submit(db, world.enrolments(2))
    for headers, body, want in (
        (one, {"filter": {}}, 422),
        (one, {"filter": {"held_because": "mood"}}, 422),
        (one, {"filter": {"created_before": "2020-01-01T00:00:00Z"}}, {"released": 0, "own": 0}),
        (
            one,
            {"filter": {"ids": [held.id], "source": "bulk", "requested_by": "test:admin"}},
            {"released": 1, "own": 0},
        ),
    ):
        answer = client.post("/v1/jobs/release", headers=headers, json=body)
        assert (answer.json() if answer.status_code == 200 else answer.status_code) == want
    assert_balanced(db)


def test_a_job_is_sent_with_the_hash_of_its_plan(client: TestClient, bearer: Bearer, world: World) -> None:
    producer = bearer("producer")
    owned = world.enrolment(pathway_id=world.pathway("Onboarding"))
    body = {"reason": "not_required", "enrolment_ids": [*world.enrolments(2), owned, 999_999]}
    answer = client.post("/v1/jobs/plan", headers=producer, json=body)
    assert answer.status_code == 200
    found = answer.json()
    assert found["outcomes"] == {"withdrawn": 2, "pathway_owned": 1, "not_found": 1}
    assert found["expires_at"].endswith("Z")
    assert found["samples"]["not_found"] == [
        {"enrolment_id": 999_999, "series_title": None, "pathway_title": None, "protection": None}
    ]
    assert found["samples"]["pathway_owned"][0]["pathway_title"] == "Onboarding"
    assert not world.run("SELECT 1 FROM withdrawals.jobs")
    for wrong in ({"reason": "not_required"}, {**body, "reason": "mood"}, {**body, "filter": {"series_id": 1}}):
        assert client.post("/v1/jobs/plan", headers=producer, json=wrong).status_code == 422


ACTS = [
    ("POST", "/v1/jobs/{id}/pause", "viewer", None),
    ("POST", "/v1/jobs/{id}/resume", "viewer", None),
    ("PATCH", "/v1/jobs/{id}", "viewer", {"effective_at": "2990-01-01"}),
    ("GET", "/v1/jobs/{id}/plan", "producer", None),
    ("POST", "/v1/jobs/{id}/release", "operator", None),
    ("POST", "/v1/jobs/release", "operator", {"filter": {"source": "bulk"}}),
    ("GET", "/v1/brake", "producer", None),
    ("PUT", "/v1/brake", "approver", {}),
    ("POST", "/v1/jobs/plan", "viewer", {"reason": "not_required", "enrolment_ids": [1]}),
]


def test_each_act_needs_its_role_and_no_organisation_acts_on_anothers(
    client: TestClient, bearer: Bearer, db: Database, world: World
) -> None:
    job = world.submit(db, world.enrolments(1), effective_at="2990-01-01T00:00:00Z")
    elsewhere = bearer("approver", organisation_id=world.organisation("Other"))
    tokens = {role: bearer(role) for role in ("producer", "viewer", "operator", "approver")}
    for method, path, too_little, body in ACTS:
        url = path.format(id=job.id)
        assert client.request(method, url, json=body).status_code == 401, path
        assert client.request(method, url, json=body, headers=tokens[too_little]).status_code == 403, path
        if "{id}" in path:
            theirs = client.request(method, url, json=body, headers=elsewhere)
            none = client.request(method, path.format(id=999_999), json=body, headers=elsewhere)
            assert theirs.status_code == none.status_code == 404, path
            assert theirs.text.replace(str(job.id), "999999") == none.text
            assert client.request(method, path.format(id=2**63), json=body, headers=elsewhere).status_code == 422
    assert client.post("/v1/jobs/release", json={"filter": {"ids": [job.id]}}, headers=elsewhere).json()["own"] == 0


@pytest.mark.usefixtures("environment")
def test_metrics_count_what_waits_and_name_nobody(client: TestClient, db: Database, world: World) -> None:
    world.submit(db, world.enrolments(1))
    limit(db, world, 0)
    world.submit(db, world.enrolments(1))
    world.relay_leads(seen="1 second")
    answer = client.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/plain")
    lines = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    assert lines['withdrawals_held_jobs{cause="brake"}'] == "1.0"
    assert lines['withdrawals_held_jobs{cause="policy"}'] == "0.0"
    assert lines["withdrawals_due_chunks"] == "1.0"
    assert lines['withdrawals_open_dead_letters{code="poison"}'] == "0.0"
    assert float(lines["withdrawals_relay_seen_seconds"]) >= 0
    assert "Acme" not in answer.text
