"""A database that takes no writes: the service says when to come back, and accepts nothing meanwhile."""

from collections.abc import Callable

from starlette.testclient import TestClient

from tests.support.clusters import read_only
from tests.world import World, eventually

Bearer = Callable[..., dict[str, str]]


def test_a_read_only_database_is_answered_with_503_and_retry_after(
    impatient: TestClient, bearer: Bearer, world: World
) -> None:
    headers, ids = {**bearer("operator"), "Idempotency-Key": "k"}, world.enrolments(1)
    body = {"reason": "not_required", "enrolment_ids": ids}
    with read_only(world):
        refused = impatient.post("/v1/jobs", headers=headers, json=body)
        ready = impatient.get("/readyz").json()
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:withdrawals:problem:unavailable")
    assert int(refused.headers["retry-after"]) > 0
    assert ready["database"] == {"ok": False, "error": "read-only"}
    eventually(lambda: impatient.post("/v1/jobs", headers=headers, json=body).status_code == 202)
