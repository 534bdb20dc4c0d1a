"""Runs over HTTP: previewed first, by role, within the organisation."""

from collections.abc import Callable

from starlette.testclient import TestClient

from tests.dead_letters.test_runs import freed, owned
from tests.world import World
from worker.config import Settings
from worker.database import Database

Bearer = Callable[..., dict[str, str]]


def test_a_run_is_started_watched_and_stopped_over_http(
    client: TestClient, bearer: Bearer, db: Database, world: World, environment: Settings
) -> None:
    freed(world, owned(db, world, environment, 4)[:2])
    wanted = {"code": "pathway_owned"}
    path = "/v1/dead-letters"
    dry = client.post(f"{path}/redrive", json={**wanted, "dry_run": True}, headers=bearer("operator"))
    assert (dry.status_code, dry.json()["outcomes"]) == (200, {"pathway_owned": 2, "withdrawn": 2})
    assert client.post(f"{path}/redrive", json=wanted, headers=bearer("viewer")).status_code == 403
    for remedy in ("override", "cascade"):
        asked = {**wanted, "remedy": remedy, "note": "agreed"}
        assert client.post(f"{path}/resolve", json=asked, headers=bearer("operator")).status_code == 403
    assert (
        client.post(f"{path}/resolve", json={**wanted, "remedy": "keep"}, headers=bearer("operator")).status_code == 422
    )
    begun = client.post(f"{path}/redrive", json={**wanted, "rate": 10, "canary": 1}, headers=bearer("operator"))
    assert (begun.status_code, begun.json()["state"], begun.json()["letters"]) == (202, "canary", 4)
    run_id = begun.json()["id"]
    assert client.get(f"{path}/runs", headers=bearer("viewer")).json()["items"][0]["id"] == run_id
    assert client.post(f"{path}/runs/{run_id}/stop", headers=bearer("operator")).json()["state"] == "stopped"
    theirs = bearer("approver", organisation_id=world.organisation("Other"))
    for answer in (
        client.get(f"{path}/runs/{run_id}", headers=theirs),
        client.post(f"{path}/runs/{run_id}/stop", headers=theirs),
    ):
        assert answer.status_code == 404
    assert client.post(f"{path}/redrive", json={**wanted, "dry_run": True}, headers=theirs).json()["letters"] == 0
    assert client.post(f"{path}/redrive", json={"colour": "red"}, headers=bearer("operator")).status_code == 422


def test_runs_are_read_page_by_page_newest_first(
    client: TestClient, bearer: Bearer, db: Database, world: World, environment: Settings
) -> None:
    owned(db, world, environment, 3)
    path = "/v1/dead-letters"
    begun = []
    for number in (1, 2, 3):
        answer = client.post(
            f"{path}/redrive", json={"code": "pathway_owned", "rate": number}, headers=bearer("operator")
        )
        begun.append(answer.json()["id"])
        client.post(f"{path}/runs/{begun[-1]}/stop", headers=bearer("operator"))
    first = client.get(f"{path}/runs", params={"limit": 2}, headers=bearer("viewer")).json()
    rest = client.get(
        f"{path}/runs", params={"limit": 2, "cursor": first["next_cursor"]}, headers=bearer("viewer")
    ).json()
    assert [item["id"] for item in first["items"] + rest["items"]] == begun[::-1]
    assert rest["next_cursor"] is None
