"""The dead-letter desk and decision receipts over HTTP: roles, tenants, filters, what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.support.web import Hr
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies

Bearer = Callable[..., dict[str, str]]


@pytest.fixture
def owned(db: Database, world: World, environment: Settings) -> list[int]:
    """Three enrolments in front of support."""
    pathway = world.pathway("Onboarding")
    ids = [world.enrolment(f"l{n}", pathway_id=pathway) for n in range(3)]
    world.submit(db, ids)
    decide_due(db, environment)
    return ids


def calls(letter_id: int, enrolment_id: int) -> list[tuple[str, str, Any, str]]:
    """Every call with the least role that may make it."""
    return [
        ("GET", "/v1/dead-letters/groups", None, "viewer"),
        ("GET", "/v1/dead-letters/overview", None, "viewer"),
        ("GET", f"/v1/enrolments/{enrolment_id}/history", None, "viewer"),
        ("POST", f"/v1/dead-letters/{letter_id}/assign", {"assignee": "dora"}, "operator"),
        ("POST", "/v1/dead-letters/assign", {"filter": {}, "assignee": None}, "operator"),
        ("POST", f"/v1/dead-letters/{letter_id}/note", {"note": "x"}, "operator"),
        ("POST", "/v1/dead-letters/note", {"filter": {}, "note": "x"}, "operator"),
    ]


def test_each_call_needs_its_role(client: TestClient, bearer: Bearer, world: World, owned: list[int]) -> None:
    roles = ["producer", "viewer", "operator", "approver"]
    headers = {role: bearer(role) for role in [*roles, "scim"]}
    for method, path, body, least in calls(world.letters()[0].id, owned[0]):
        assert client.request(method, path, json=body).status_code == 401
        for role in roles:
            allowed = roles.index(role) >= roles.index(least)
            answer = client.request(method, path, json=body, headers=headers[role])
            assert answer.status_code == (200 if allowed else 403), (path, role, answer.text)
        assert client.request(method, path, json=body, headers=headers["scim"]).status_code == 403


def test_another_organisations_letters_and_enrolments_do_not_exist(
    client: TestClient, bearer: Bearer, world: World, owned: list[int]
) -> None:
    theirs = bearer("operator", organisation_id=world.organisation("Other"))
    for method, path, body, _ in calls(world.letters()[0].id, owned[0]):
        answer = client.request(method, path, json=body, headers=theirs)
        if any(part.isdigit() for part in path.split("/")):
            missing = client.request(
                method, path.replace(f"/{owned[0]}/", "/999999/").replace(f"/{world.letters()[0].id}/", "/999999/"),
                json=body, headers=theirs,
            )  # fmt: skip
            assert answer.status_code == missing.status_code == 404
        else:
            assert answer.status_code == 200
            assert answer.json().get("letters", 0) == answer.json().get("changed", 0) == 0
    assert world.one("SELECT count(*) FROM withdrawals.audit WHERE action LIKE 'dead_letter%'") == 0


def test_letters_are_grouped_given_to_somebody_and_explained(
    client: TestClient, bearer: Bearer, world: World, owned: list[int]
) -> None:
    who = bearer("operator", name="desk")
    (group,) = client.get("/v1/dead-letters/groups", params={"state": "open"}, headers=who).json()["items"]
    assert (group["count"], group["states"], group["unassigned"]) == (3, {"open": 3}, 3)
    assert "Onboarding" in group["sentence"]
    job = world.one("SELECT id FROM withdrawals.jobs")
    for params, letters_found in (({"job_id": job}, 3), ({"job_id": 999}, 0), ({"assignee": "none"}, 3),
                                  ({"older_than": "2020-01-01T00:00:00Z"}, 0)):  # fmt: skip
        found = client.get("/v1/dead-letters/groups", params=params, headers=who)
        assert found.json()["letters"] == letters_found, params
    done = client.post(
        "/v1/dead-letters/assign",
        json={"filter": {"fingerprint": group["fingerprint"]}, "assignee": "dora"},
        headers=who,
    )
    assert done.json() == {"matched": 3, "changed": 3}
    noted = client.post(f"/v1/dead-letters/{group['sample']}/note", json={"note": "asked them"}, headers=who).json()
    assert (noted["assignee"], noted["diagnosis"]["shared_by"]) == ("dora", 3)
    assert noted["notes"][0]["note"] == "asked them"
    assert [(event["what"], event["who"]) for event in noted["history"]] == [
        ("the letter was opened", None),
        ("assigned it to dora", "token:desk"),
        ("added a note", "token:desk"),
    ]
    told = client.get(f"/v1/enrolments/{noted['enrolment_id']}/history", headers=who).json()
    assert told["decisions"][0]["rule"]["number"] == 6
    assert told["dead_letters"][0]["id"] == noted["id"]


def test_what_cannot_be_is_refused_by_name(
    client: TestClient, bearer: Bearer, db: Database, world: World, owned: list[int]
) -> None:
    who = bearer("operator")
    letter_id = world.letters()[0].id
    refused: list[tuple[str, Any, str]] = [
        (f"{letter_id}/assign", {}, "assignee"),
        (f"{letter_id}/assign", {"assignee": "none"}, "assignee"),
        (f"{letter_id}/assign", {"assignee": " "}, "assignee"),
        (f"{letter_id}/assign", {"assignee": "a\0b"}, "assignee"),
        (f"{letter_id}/note", {"note": " "}, "note"),
        ("assign", {"assignee": "dora"}, "filter"),
        ("assign", {"assignee": "dora", "filter": {"colour": "red"}}, "colour"),
        ("note", {"note": "x", "filter": {"code": "bored"}}, "code"),
        ("note", {"note": "x", "filter": {"job_id": 2**63}}, "job_id"),
    ]
    for path, body, field in refused:
        answer = client.post(f"/v1/dead-letters/{path}", json=body, headers=who)
        assert answer.status_code == 422, (path, body)
        assert field in answer.json()["detail"]
    assert client.get("/v1/dead-letters/groups", params={"colour": "red"}, headers=who).status_code == 422
    remedies.discard(db, organisation_id=world.organisation_id, letter_ids=[letter_id], actor="test:support")
    closed = client.post(f"/v1/dead-letters/{letter_id}/assign", json={"assignee": "dora"}, headers=who)
    assert (closed.status_code, closed.json()["type"]) == (409, "urn:withdrawals:problem:conflict")
    for far in (2**63, 10**30):
        assert client.get(f"/v1/enrolments/{far}/history", headers=who).status_code == 404
        assert client.post(f"/v1/dead-letters/{far}/note", json={"note": "x"}, headers=who).status_code == 404


def test_an_event_that_could_not_be_read_shows_its_source_receipt_and_body(
    client: TestClient, db: Database, world: World, hr: Hr
) -> None:
    answer = hr.send({"type": "user.deactivated", "data": {}}, key="msg_7")
    assert answer.status_code == 422
    letter = remedies.document(
        remedies.show(db, organisation_id=world.organisation_id, letter_id=world.letters()[0].id)
    )
    seen = letter.diagnosis.seen_then
    assert (seen["source"], seen["event_id"], seen["receipt_id"]) == ("workday", "msg_7", answer.json()["receipt_id"])
    assert letter.diagnosis.sentence.endswith("Nothing was done with it.")
    assert set(letter.remedies) == {"discard"}
    assert letter.diagnosis.next is None
