"""Webhooks that go out, over HTTP: roles, tenants, the secret shown once."""

from collections.abc import Callable

from starlette.testclient import TestClient

from tests.world import World

Bearer = Callable[..., dict[str, str]]
REQUEST = {"url": "https://help.example/hooks", "events": ["job.held", "dead_letter.opened"]}


def test_an_approver_makes_one_and_its_secret_is_shown_once(client: TestClient, bearer: Bearer) -> None:
    assert client.post("/v1/webhooks", json=REQUEST, headers=bearer("approver")).status_code == 403
    made = client.post("/v1/webhooks", json=REQUEST, headers=bearer("owner"))
    assert made.status_code == 201
    assert made.json()["secret"].startswith("whsec_")
    listed = client.get("/v1/webhooks", headers=bearer("viewer"))
    assert [item["id"] for item in listed.json()["items"]] == [made.json()["id"]]
    assert made.json()["secret"] not in listed.text
    ended = client.post(f"/v1/webhooks/{made.json()['id']}/disable", headers=bearer("owner"))
    assert ended.json()["disabled_at"]
    assert client.post(f"/v1/webhooks/{made.json()['id']}/test", headers=bearer("operator")).status_code == 404


def test_an_address_inside_is_refused_by_name_of_the_field(client: TestClient, bearer: Bearer) -> None:
    answer = client.post("/v1/webhooks", json={**REQUEST, "url": "https://10.0.0.1/"}, headers=bearer("owner"))
    assert answer.status_code == 422
    assert "url" in answer.json()["detail"]
    assert "10.0.0.1" not in answer.text


def test_another_organisations_webhooks_do_not_exist(client: TestClient, bearer: Bearer, world: World) -> None:
    made = client.post("/v1/webhooks", json=REQUEST, headers=bearer("owner")).json()
    world.run(
        "INSERT INTO withdrawals.deliveries (endpoint_id, organisation_id, type, data) VALUES (:e, :o, 'test', '{}')",
        e=made["id"],
        o=world.organisation_id,
    )
    mine = client.get(f"/v1/webhooks/{made['id']}/deliveries", headers=bearer("viewer")).json()["items"]
    theirs = bearer("owner", organisation_id=world.organisation("Other"))
    assert client.get(f"/v1/webhooks/{made['id']}/deliveries", headers=theirs).json()["items"] == []
    for path in (f"{made['id']}/disable", f"{made['id']}/test", f"deliveries/{mine[0]['id']}/replay"):
        assert client.post(f"/v1/webhooks/{path}", headers=theirs).status_code == 404
    assert client.get("/v1/webhooks", headers=theirs).json()["items"] == []


def test_deliveries_are_read_page_by_page_newest_first(client: TestClient, bearer: Bearer, world: World) -> None:
    made = client.post("/v1/webhooks", json=REQUEST, headers=bearer("owner")).json()
    world.run(
        "INSERT INTO withdrawals.deliveries (endpoint_id, organisation_id, type, data) "
        "SELECT :e, :o, 'test', '{}' FROM generate_series(1, 3)",
        e=made["id"],
        o=world.organisation_id,
    )
    path = f"/v1/webhooks/{made['id']}/deliveries"
    first = client.get(path, params={"limit": 2}, headers=bearer("viewer")).json()
    rest = client.get(path, params={"limit": 2, "cursor": first["next_cursor"]}, headers=bearer("viewer")).json()
    assert [item["id"] for item in first["items"] + rest["items"]] == [3, 2, 1]
    assert rest["next_cursor"] is None
