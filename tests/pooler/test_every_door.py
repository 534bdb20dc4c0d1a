"""Every way in and out, with a worker and a relay as real processes, through PgBouncer in transaction mode."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from tests.support.commandline import done
from tests.support.web import MakeHr, event
from tests.world import World, assert_balanced, eventually
from worker.database import Database

Bearer = Callable[..., dict[str, str]]
SCIM = {"content-type": "application/scim+json"}


@pytest.mark.long
def test_requests_of_every_kind_are_done_through_the_pooler(
    processes: None, client: TestClient, db: Database, world: World, bearer: Bearer, make_hr: MakeHr
) -> None:
    """Small: the races through the pooler, and what its sessions need in test_sessions.py."""
    one, filed, of_ben, of_cleo = (world.enrolment(name) for name in ("anna", "dora", "ben", "cleo"))
    many = world.enrolments(1500)
    operator = bearer("operator")

    planned = post(client, operator, "/v1/jobs/plan", {"reason": "not_required", "enrolment_ids": [one, *many]})
    assert planned["outcomes"] == {"withdrawn": 1501}
    post(client, operator, "/v1/jobs", {
        "reason": "not_required", "enrolment_ids": [one, *many], "plan_hash": planned["plan_hash"]
    })  # fmt: skip
    rows = {"file": ("ids.csv", f"enrolment_id\n{filed}\n".encode(), "text/csv")}
    sent = client.post("/v1/jobs/file", headers=keyed(operator), data={"reason": "not_required"}, files=rows)
    assert sent.status_code == 202, sent.text
    assert make_hr().send(event("ben")).status_code == 202
    deactivate_by_scim(client, bearer("scim"), "cleo")
    done("submit", world.enrolment("eva"), "--reason", "not_required")

    eventually(lambda: world.one("SELECT count(*) FROM withdrawals.jobs WHERE finished_at IS NULL") == 0)
    assert {world.status(each) for each in (one, filed, of_ben, of_cleo, many[-1])} == {"withdrawn"}
    assert not world.active("ben")
    exported = client.get("/v1/reports/enrolments.csv", headers=bearer("viewer"))
    assert len(exported.text.splitlines()) == 1 + 5 + len(many)
    assert client.get("/v1/reports/summary", headers=bearer("viewer")).status_code == 200
    assert client.get("/readyz").status_code == 200
    assert_balanced(db)


def post(client: TestClient, headers: dict[str, str], path: str, body: dict[str, Any]) -> Any:
    answer = client.post(path, headers=keyed(headers), json=body)
    assert answer.is_success, answer.text
    return answer.json()


def keyed(headers: dict[str, str]) -> dict[str, str]:
    return {**headers, "Idempotency-Key": uuid4().hex}


def deactivate_by_scim(client: TestClient, headers: dict[str, str], external_id: str) -> None:
    found = client.get("/scim/v2/Users", headers=headers, params={"filter": f'externalId eq "{external_id}"'}).json()
    user = found["Resources"][0]["id"]
    off = {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [{"op": "replace", "value": {"active": False}}],
    }
    answer = client.patch(f"/scim/v2/Users/{user}", headers={**headers, **SCIM}, json=off)
    assert answer.is_success, answer.text
