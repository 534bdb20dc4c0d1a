"""Protections and people on the command line and over HTTP: the same rules, the same records."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.support.commandline import done, refused, withdrawals
from tests.world import World, assert_balanced, decide_due
from worker.access import tokens
from worker.config import Settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.web.app import make_app


@pytest.fixture
def client(db: Database, environment: Settings) -> Iterator[TestClient]:
    app = make_app(db, make_broker(environment.broker_url.get_secret_value()), environment)
    with TestClient(app, raise_server_exceptions=False) as made:
        yield made


def test_a_person_is_protected_and_known_over_both_doors(
    client: TestClient, db: Database, world: World, environment: Settings
) -> None:
    def bearer(role: str, name: str) -> dict[str, str]:
        made = tokens.create(db, organisation_id=world.organisation_id, name=name, role=role, actor="test:root")
        return {"Authorization": f"Bearer {made.secret}"}

    kept = world.enrolment("a/1")
    hold = done("protection", "add", "--learner", "a/1", "--kind", "legal_hold", "--reason", "case 17", "--as", "ada")
    assert (hold["state"], hold["until"], hold["made_by"]) == ("live", None, "ada")
    assert "until" in refused("protection", "add", "--learner", "a/1", "--kind", "exemption", "--reason", "x")
    assert (
        "there is no learner 'A/1'"
        in withdrawals("protection", "add", "--learner", "A/1", "--kind", "legal_hold", "--reason", "x").err
    )
    world.event(db, "deactivated", "a/1")
    decide_due(db, environment)
    assert_balanced(db)

    operator, approver, owner = (bearer(role, role) for role in ("operator", "approver", "owner"))
    listed = client.get("/v1/protections", headers=operator, params={"enrolment_id": kept, "live": True}).json()
    assert listed["items"] == [hold]
    body = {"enrolment_id": kept, "kind": "exemption", "reason": "agreed", "until": "2990-01-31"}
    made = client.post("/v1/protections", headers=operator, json=body)
    assert made.status_code == 201
    assert made.json()["until"] == "2990-02-01T00:00:00Z", "a day is its end in the organisation's time zone"
    assert client.post("/v1/protections", headers=operator, json=body).json() == made.json()
    path = f"/v1/protections/{hold['id']}"
    assert client.post(f"{path}/lift", headers=operator, json={"note": "x"}).status_code == 403
    own = bearer("approver", "Ada")
    answer = client.post(f"{path}/lift", headers=own, json={"note": "x"})
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:withdrawals:problem:own_protection")
    assert client.post(f"{path}/lift", headers=approver, json={"note": ""}).status_code == 422
    lifted = client.post(f"{path}/lift", headers=approver, json={"note": "case closed"}).json()
    assert (lifted["state"], lifted["lifted_by"]) == ("lifted", "token:approver")
    assert done("protection", "show", hold["id"]) == lifted
    assert "is lifted by token:approver" in withdrawals("protection", "lift", hold["id"], "--note", "again").err
    assert client.put("/v1/protections/policy", headers=owner, json={"letters": False}).json() == {"letters": False}
    assert done("protection", "policy") == {"letters": False}
    assert done("protection", "policy", "--letters") == {"letters": True}

    shown = client.get("/v1/people/a/1", headers=operator).json()
    assert shown == done("person", "show", "a/1")
    assert (shown["profile"]["active"], shown["state"]["active"]) == (False, False)
    assert [one["id"] for one in shown["enrolments"]] == [kept]
    assert [(one["type"], one["source"]) for one in shown["events"]] == [("user.deactivated", "hr")]
    assert [one["outcomes"] for one in shown["jobs"]] == [{str(kept): "protected"}]
    assert [one["code"] for one in shown["dead_letters"]] == ["protected"]
    assert [one["state"] for one in shown["protections"]] == ["live", "lifted"]
    assert [one["who"] for one in shown["approvals"]] == ["token:approver"]
    assert shown["history"][0]["what"].startswith("lifted protection")
    assert "case closed" in withdrawals("person", "show", "a/1").out
    assert client.get("/v1/people/A/1", headers=operator).status_code == 404
    assert withdrawals("person", "show", "A/1").code == 1
