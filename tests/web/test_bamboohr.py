"""`/hooks/bamboohr/{source}`: field-based webhooks of BambooHR, several employees a request."""

import hashlib
import hmac
import json
import time
from collections import Counter
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from tests.support.web import apply_inbox_of, make_source
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database

KEY = "5f2c9d0e8b7a4c3d1e0f9a8b7c6d5e4f"


@pytest.fixture(autouse=True)
def source(db: Database, environment: Settings, world: World) -> None:
    """BambooHR makes the key itself."""
    make_source(db, environment, world.organisation_id, "bamboo", "bamboohr", secret=KEY)


def employee(number: Any = "4711", status: Any = "Inactive", **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "action": "Updated",
        "timestamp": "2026-03-01T08:00:00+0000",
        "changedFields": ["Status"],
        "fields": {"First name": {"value": "Anna"}, "Status": {"value": status}},
        **more,
    }


def send(
    client: TestClient,
    *employees: Any,
    raw: bytes | None = None,
    key: str = KEY,
    at: str | None = None,
    replace: dict[str, str] | None = None,
) -> httpx2.Response:
    """Send employees; what is stored is applied before the next ones come."""
    body = json.dumps({"employees": list(employees)}).encode() if raw is None else raw
    sent = at or str(int(time.time()))
    headers = {
        "content-type": "application/json",
        "x-bamboohr-timestamp": sent,
        "x-bamboohr-signature": hmac.new(key.encode(), body + sent.encode(), hashlib.sha256).hexdigest(),
    }
    answer = client.post("/hooks/bamboohr/bamboo", content=body, headers={**headers, **(replace or {})})
    apply_inbox_of(client)
    return answer


def test_employees_whose_status_changed_are_deactivated_or_reactivated(
    client: TestClient, world: World, db: Database, environment: Settings
) -> None:
    ids = {person: world.enrolment(person) for person in ("4711", "4712", "4713")}
    request = [
        employee(),
        employee(4712, fields={"status": "Inactive"}, changedFields=["status"]),
        employee("4713", changedFields=["Job title"]),
    ]
    for _ in range(2):
        answer = send(client, *request)
        assert (answer.status_code, answer.content) == (200, b"")
    assert [world.active(person) for person in ids] == [False, False, True]
    assert send(client, employee("4712", "Active", timestamp="2026-03-02T08:00:00+0000")).status_code == 200
    decide_due(db, environment)
    assert [world.status(id_) for id_ in ids.values()] == ["withdrawn", "in_progress", "in_progress"]
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 2
    assert_balanced(db)


def test_a_new_job_title_is_not_a_reactivation(client: TestClient, world: World) -> None:
    """A deactivation stays in effect. A deleted record is not a deactivation."""
    world.enrolment("4711")
    send(client, employee(action="Deleted"))
    assert world.active("4711")
    send(client, employee())
    send(client, employee(status="Active", changedFields=["Job title"], timestamp="2026-03-02T08:00:00+0000"))
    assert not world.active("4711")


def test_an_event_without_a_time_happened_when_it_was_sent(client: TestClient, world: World) -> None:
    """So the same content on another day is another event."""
    world.enrolment("4711")
    now = int(time.time())
    for seconds, status in ((-120, "Inactive"), (-60, "Active"), (0, "Inactive")):
        send(client, employee(status=status, timestamp=None), at=str(now + seconds))
        assert world.active("4711") == (status == "Active")


WRONG: list[Any] = [
    employee(status="On leave"), employee(fields={}), employee(number=None), employee(number=[]), employee(number=""),
    employee(number="a\0b"), employee(timestamp="soon"), employee(fields=7), employee(changedFields="Status"),
    {"timestamp": "2026-03-01T08:00:00Z", "fields": {"Status": "Inactive"}},
]  # fmt: skip


def test_an_unreadable_employee_does_not_keep_the_others_out(client: TestClient, world: World, db: Database) -> None:
    world.enrolment("4711")
    for _ in range(2):
        assert send(client, *WRONG, employee()).status_code == 200
    assert not world.active("4711")
    assert Counter(letter.code for letter in world.letters()) == {"invalid_event": len(WRONG)}
    assert_balanced(db)


def test_an_event_based_webhook_has_no_status_and_goes_to_support(client: TestClient, world: World) -> None:
    body = {"type": "employee.updated", "timestamp": "2026-01-31T18:42:00+0000", "data": {"employeeId": "67890"}}
    answer = send(client, raw=json.dumps(body).encode())
    assert answer.status_code == 422
    assert "employees" in answer.json()["detail"]
    assert send(client, raw=b"nonsense").status_code == 400
    assert [letter.code for letter in world.letters()] == ["invalid_event"] * 2


def test_signature_missing_or_wrong_or_time_off(client: TestClient, world: World) -> None:
    """401 with one body for all."""
    world.enrolment("4711")
    now = time.time()
    times = [str(int(now - 360)), str(int(now + 360)), "soon", "-1", "1e9", f"{int(now):018d}{'9' * 30}", "9" * 5000]
    answers = [send(client, employee(), at=at) for at in times]
    answers += [
        send(client, employee(), key="another-key-of-another-source"),
        send(client, employee(), replace={"x-bamboohr-signature": ""}),
        send(client, employee(), replace={"x-bamboohr-timestamp": str(int(now) - 1)}),
        client.post("/hooks/bamboohr/nobody", json={"employees": [employee()]}),
        client.post("/hooks/bamboohr/bamboo", json={"employees": [employee()]}),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert world.active("4711")
