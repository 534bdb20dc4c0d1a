"""What the pages of the settings do, over HTTP and on the command line: tokens, HR sources, webhooks."""

import json
from collections.abc import Callable

from starlette.testclient import TestClient

from tests.support.commandline import done, withdrawals
from tests.support.web import event, signed
from tests.world import World

Bearer = Callable[..., dict[str, str]]


def test_an_owner_makes_and_revokes_tokens_over_http(client: TestClient, bearer: Bearer, world: World) -> None:
    owner = bearer("owner")
    for path, body in (("", {"name": "sync", "role": "producer"}), ("/1/revoke", None)):
        assert client.post(f"/v1/tokens{path}", json=body, headers=bearer("approver")).status_code == 403
    assert client.get("/v1/tokens", headers=bearer("approver")).status_code == 403
    made = client.post("/v1/tokens", json={"name": "sync", "role": "producer"}, headers=owner)
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    sync = {"Authorization": f"Bearer {made.json()['token']}"}
    assert client.get("/v1/jobs", headers=sync).status_code == 200
    listed = client.get("/v1/tokens", headers=owner)
    assert made.json()["token"] not in listed.text
    assert listed.json()["items"][0] == {key: value for key, value in made.json().items() if key != "token"} | {
        "last_used_at": listed.json()["items"][0]["last_used_at"]
    }
    body = {"name": "SYNC", "role": "viewer"}
    assert client.post("/v1/tokens", json=body, headers=owner).json()["type"].endswith("conflict")
    theirs = bearer("owner", organisation_id=world.organisation("Other"))
    assert client.post(f"/v1/tokens/{made.json()['id']}/revoke", headers=theirs).status_code == 404
    ended = client.post(f"/v1/tokens/{made.json()['id']}/revoke", headers=owner)
    assert ended.json()["revoked_at"]
    assert client.get("/v1/jobs", headers=sync).status_code == 401


def test_a_source_is_made_tested_rotated_and_disabled_over_http(
    client: TestClient, bearer: Bearer, world: World
) -> None:
    owner, body = bearer("owner"), {"name": "workday", "on_deactivate": "hold"}
    assert client.post("/v1/sources", json=body, headers=bearer("approver")).status_code == 403
    made = client.post("/v1/sources", json=body, headers=owner)
    assert made.status_code == 201
    one, path = made.json(), f"/v1/sources/{made.json()['id']}"
    assert one["path"] == "/hooks/hr/workday"
    listed = client.get("/v1/sources", headers=bearer("viewer"))
    assert listed.json()["items"] == [{key: value for key, value in one.items() if key != "secret"}]
    assert client.post("/v1/sources", json={**body, "secret": "short", "name": "x"}, headers=owner).status_code == 422
    assert client.post("/v1/sources", json=body, headers=owner).status_code == 409

    sent = json.dumps(event()).encode()
    client.post(one["path"], content=sent, headers=signed(one["secret"], sent))
    tested = client.post(f"{path}/test", headers=bearer("operator")).json()
    assert (tested["status"], tested["type"]) == ("ignored", None)
    events = client.get(f"{path}/events", headers=bearer("viewer")).json()["items"]
    assert [item["type"] for item in events] == [None, "user.deactivated"]
    assert done("sources", "events", one["id"], "--limit", 1)["items"] == events[:1]
    assert done("sources", "test", one["id"])["status"] == "ignored"
    theirs = bearer("owner", organisation_id=world.organisation("Other"))
    for act in ("test", "rotate", "disable"):
        assert client.post(f"{path}/{act}", json={}, headers=theirs).status_code == 404, act
    assert client.get(f"{path}/events", headers=theirs).status_code == 404

    rotated = client.post(f"{path}/rotate", json={"keep_hours": 0}, headers=owner).json()
    assert rotated["rotated_at"]
    for secret, status in ((one["secret"], 401), (rotated["secret"], 202)):
        sent = json.dumps(event("ben")).encode()
        assert client.post(one["path"], content=sent, headers=signed(secret, sent)).status_code == status
    assert client.post(f"{path}/disable", headers=owner).json()["disabled_at"]
    assert client.post(f"{path}/test", headers=owner).status_code == 404
    again = withdrawals("sources", "test", one["id"], "--organisation", "Acme")
    assert (again.code, again.err) == (1, "error: there is no live source 1 in this organisation\n")
    acts = world.run(
        "SELECT action, detail ->> 'source' AS source FROM withdrawals.audit WHERE action ~ '^source' ORDER BY id"
    )
    assert [row.action for row in acts] == [
        "source.create", "source.test", "source.test", "source.rotate", "source.disable",
    ]  # fmt: skip
    assert {row.source for row in acts} == {"workday"}


def test_a_webhook_is_paused_resumed_and_rotated_over_http(client: TestClient, bearer: Bearer, world: World) -> None:
    owner, operator = bearer("owner"), bearer("operator")
    body = {"url": "https://desk.example/?key=s3cret", "events": ["job.held"]}
    made = client.post("/v1/webhooks", json=body, headers=owner).json()
    path = f"/v1/webhooks/{made['id']}"
    paused = client.post(f"{path}/pause", headers=operator).json()
    assert paused["paused_because"] == "by " + world.one("SELECT actor FROM withdrawals.audit ORDER BY id DESC LIMIT 1")
    again = done("webhooks", "pause", made["id"], "--as", "ops")
    assert (again["paused_at"], again["paused_because"]) == (paused["paused_at"], paused["paused_because"])
    assert client.post(f"{path}/resume", json={}, headers=operator).json()["paused_at"] is None
    after = {"after": "latest"}
    assert client.post(f"{path}/resume", json=after, headers=operator).status_code == 409, "it follows no feed"
    assert client.post(f"{path}/rotate", json={}, headers=operator).status_code == 403
    rotated = client.post(f"{path}/rotate", json={"keep_hours": 1}, headers=owner)
    assert rotated.headers["cache-control"] == "no-store"
    assert rotated.json()["secret"] != made["secret"]
    assert rotated.json()["previous_until"]
    client.post(f"{path}/disable", headers=owner)
    assert client.post(f"{path}/pause", headers=operator).status_code == 404
    assert "s3cret" not in str(world.run("SELECT detail FROM withdrawals.audit"))
    kept = client.get("/v1/retention", headers=bearer("viewer")).json()
    assert {one["what"]: one["days"] for one in kept["kept"]}["audit"] is None
