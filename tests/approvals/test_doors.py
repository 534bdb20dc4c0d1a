"""Approvals and policies over HTTP and on the command line: the same answers, and 409 for what waits."""

from collections.abc import Callable
from typing import Any

from starlette.testclient import TestClient

from tests.approvals.office import Office
from tests.support.commandline import done, withdrawals
from worker.access import tokens

Bearer = Callable[..., dict[str, str]]
SECOND_PERSON = "urn:withdrawals:problem:second_person"


def test_what_waits_is_decided_over_http_and_listed_until_then(
    client: TestClient, bearer: Bearer, office: Office
) -> None:
    ada, viewer, owner = (bearer(role, name=role) for role in ("approver", "viewer", "owner"))
    eve = bearer("approver", name="eve")
    rules = [{"act": "override", "source": None, "alone_up_to": 0}]
    answer = client.put("/v1/policies", headers=owner, json={"rules": rules, "note": "audit"})
    assert (answer.status_code, answer.json()["type"]) == (409, SECOND_PERSON)
    change = answer.json()["approval"]
    assert client.get("/v1/policies", headers=viewer).json()["approval"] == change
    assert client.post(f"/v1/approvals/{change['id']}/approve", headers=ada).json()["state"] == "approved"
    shown = client.get("/v1/policies", headers=viewer).json()
    assert {"act": "override", "source": None, "alone_up_to": 0, "own": True} in shown["rules"]
    assert shown["approval"] is None

    (letter,) = office.letters()
    resolve: dict[str, Any] = {"headers": ada, "json": {"remedy": "override", "note": "agreed"}}
    answer = client.post(f"/v1/dead-letters/{letter}/resolve", **resolve)
    assert (answer.status_code, answer.json()["type"]) == (409, SECOND_PERSON)
    asked = answer.json()["approval"]
    assert f"/v1/approvals/{asked['id']}" in answer.json()["detail"]
    path = f"/v1/approvals/{asked['id']}"
    (waiting,) = client.get("/v1/approvals/waiting", headers=viewer).json()["items"]
    assert (waiting["kind"], waiting["id"], waiting["page"]) == ("approval", asked["id"], f"/console{path[3:]}")
    assert client.get("/v1/approvals", headers=viewer, params={"state": "pending"}).json()["items"] == [asked]
    own = client.post(f"{path}/approve", headers=ada)
    assert (own.status_code, own.json()["type"]) == (403, "urn:withdrawals:problem:own_approval")
    assert client.post(f"{path}/reject", headers=eve, json={}).status_code == 422
    assert client.post(f"{path}/withdraw", headers=eve).status_code == 409
    assert client.post(f"{path}/approve", headers=eve, json={"note": "seen"}).json()["decision_note"] == "seen"
    assert client.get(path, headers=viewer).json()["state"] == "approved"
    assert "hash" not in client.get(path, headers=viewer).text
    for wrong in (
        [{"act": "policies", "alone_up_to": 0}],
        [{"act": "lift", "alone_up_to": 5}],
        [{"act": "token", "source": "hr", "alone_up_to": 0}],
        rules * 2,
    ):
        assert client.put("/v1/policies", headers=owner, json={"rules": wrong}).status_code == 422, wrong


def test_a_held_job_that_waits_says_what_it_would_do_now(client: TestClient, bearer: Bearer, office: Office) -> None:
    job = office.held_job(3)
    office.world.run("UPDATE lms.enrolments SET status = 'withdrawn'")
    (waiting,) = client.get("/v1/approvals/waiting", headers=bearer("viewer")).json()["items"]
    assert (waiting["kind"], waiting["id"], waiting["withdraws"]) == ("job", job.id, 0)
    assert waiting["now"] == "Now it would withdraw nothing: 3 already withdrawn."


def test_the_command_line_asks_and_decides(office: Office) -> None:
    assert withdrawals("policies", "set", "--rule", "override").code == 2
    assert withdrawals("policies", "set", "--rule", "override=0", "--rule", "token=0", "--as", "ada").code == 0
    assert "token: always needs a second person\n" in withdrawals("policies", "show").out
    letters = office.letters(2)
    for letter in letters:
        asked = withdrawals("dead-letters", "resolve", letter, "--remedy", "override", "--note", "n", "--as", "ada")
        assert asked.code == 1
        assert "nothing is done yet" in asked.err
    first, second = (one["id"] for one in done("approvals", "waiting")["items"])
    assert withdrawals("approvals", "approve", first, "--as", "ada").code == 1
    assert done("approvals", "approve", first, "--as", "eve")["state"] == "approved"
    assert done("approvals", "reject", second, "--note", "no", "--as", "eve")["decision_note"] == "no"
    assert [one["id"] for one in done("approvals", "list", "--state", "rejected")["items"]] == [second]
    assert withdrawals("approvals", "list", "--state", "odd").code == 2
    token = done("tokens", "create", "--name", "boss", "--role", "owner", "--note", "the lead", "--as", "ada")
    assert token["approval"]["reason"] == "the lead"
    assert tokens.authenticate(office.db, token["token"]) is None
    mine = token["approval"]["id"]
    assert "works from then on" in withdrawals("approvals", "show", mine).out
    assert done("approvals", "withdraw", mine, "--as", "ada")["state"] == "withdrawn"
