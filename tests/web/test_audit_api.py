"""The audit over HTTP: the list with its filters, the chain, and the file."""

from collections.abc import Callable

from starlette.testclient import TestClient

from tests.world import World
from worker.database import Database
from worker.reports import audit_files

Bearer = Callable[..., dict[str, str]]


def test_a_viewer_lists_and_exports_the_acts_of_their_own_organisation(
    client: TestClient, bearer: Bearer, db: Database, world: World
) -> None:
    job = world.submit(db, [world.enrolment()])
    other = world.organisation("Other")
    world.run("INSERT INTO withdrawals.audit (organisation_id, actor, action) VALUES (:o, 'x', 'job.submit')", o=other)
    viewer = bearer("viewer")

    def ask(**query: str | int) -> list[int | None]:
        page = client.get("/v1/audit", headers=viewer, params=query)
        assert page.status_code == 200, page.text
        return [act["job_id"] for act in page.json()["items"]]

    assert ask(action="job.", actor="test:admin") == [job.id]
    assert ask(job_id=job.id, since="2026-01-01T00:00:00Z") == [job.id]
    assert ask(job_id=job.id, until="2026-01-01T00:00:00Z") == []
    assert client.get("/v1/audit", headers=viewer, params={"since": "yesterday"}).status_code == 422
    assert client.get("/v1/audit/days", headers=viewer).json() == {"items": [], "next_cursor": None}
    file = client.get("/v1/audit/export.jsonl", headers=viewer)
    found = audit_files.verify(file.text.splitlines(keepends=True))
    assert (found.faults, found.records) == ([], len(client.get("/v1/audit", headers=viewer).json()["items"]))
    assert '"operation":"job.submit"' in file.text
    for path in ("/v1/audit", "/v1/audit/days", "/v1/audit/export.jsonl"):
        assert client.get(path, headers=bearer("producer")).status_code == 403
