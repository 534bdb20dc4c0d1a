"""`/hooks/okta/{source}`: Okta verifies the hook once, then sends several events a request."""

import json
from collections import Counter
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import structlog
from starlette.testclient import TestClient

from tests.support.web import apply_inbox_of, make_source
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database

ANNA = "00u1anna"


@pytest.fixture
def secret(db: Database, environment: Settings, world: World) -> str:
    return make_source(db, environment, world.organisation_id, "okta", "okta")


def lifecycle(what: str = "deactivate", person: Any = ANNA, **more: Any) -> dict[str, Any]:
    """One event as Okta's System Log has it."""
    return {
        "uuid": str(uuid4()),
        "published": "2026-03-01T08:00:00.000Z",
        "eventType": f"user.lifecycle.{what}",
        "version": "0",
        "displayMessage": "…",
        "actor": {"id": "00uadmin", "type": "User", "alternateId": "admin@example.com", "displayName": "Admin"},
        "outcome": {"result": "SUCCESS", "reason": None},
        "target": [{"id": person, "type": "User", "alternateId": "anna@example.com", "displayName": "Anna"}],
        **more,
    }


def hook(*events: Any) -> dict[str, Any]:
    """The body of a request."""
    return {
        "eventType": "com.okta.event_hook",
        "eventTypeVersion": "1.0",
        "cloudEventsVersion": "0.1",
        "source": "https://acme.okta.example/api/v1/eventHooks/who1",
        "eventId": str(uuid4()),
        "eventTime": "2026-03-01T08:00:01.000Z",
        "contentType": "application/json",
        "data": {"events": list(events)},
    }


def send(client: TestClient, secret: str, *events: Any, raw: bytes | None = None) -> httpx2.Response:
    """Send events; what is stored is applied before the next ones come."""
    body = json.dumps(hook(*events)).encode() if raw is None else raw
    headers = {"authorization": secret, "content-type": "application/json"}
    answer = client.post("/hooks/okta/okta", content=body, headers=headers)
    apply_inbox_of(client)
    return answer


def test_get_echoes_the_challenge_whether_or_not_the_source_exists(client: TestClient, secret: str) -> None:
    for source in ("okta", "nobody", "%00"):
        answer = client.get(f"/hooks/okta/{source}", headers={"X-Okta-Verification-Challenge": "c2hvdyBtZQ"})
        assert (answer.status_code, answer.json()) == (200, {"verification": "c2hvdyBtZQ"})
    assert client.get("/hooks/okta/okta").status_code == 400


def test_each_event_of_a_request_is_applied_once(
    client: TestClient, secret: str, world: World, db: Database, environment: Settings
) -> None:
    enrolments = {person: world.enrolment(person) for person in (ANNA, "00u2ben", "00u3cleo")}
    events = [
        lifecycle(),
        lifecycle(person="00u2ben"),
        lifecycle("activate", "00u2ben", published="2026-03-01T08:00:05.000Z"),
        lifecycle("suspend", "00u3cleo"),
    ]
    for _ in range(2):
        answer = send(client, secret, *events)
        assert (answer.status_code, answer.content) == (200, b"")
    decide_due(db, environment)
    assert [world.active(person) for person in enrolments] == [False, True, True]
    assert [world.status(id_) for id_ in enrolments.values()] == ["withdrawn", "in_progress", "in_progress"]
    states = world.run("SELECT state, requested_by FROM withdrawals.jobs ORDER BY id")
    assert [tuple(row) for row in states] == [("completed", "hr:okta"), ("superseded", "hr:okta")]
    assert world.one("SELECT count(*) FROM withdrawals.receipts") == 3
    assert_balanced(db)


def test_an_event_that_failed_at_okta_is_ignored(client: TestClient, secret: str, world: World) -> None:
    world.enrolment(ANNA)
    assert send(client, secret, lifecycle(outcome={"result": "FAILURE", "reason": "no"})).status_code == 200
    assert world.active(ANNA)
    assert send(client, secret, lifecycle(outcome=None)).status_code == 200
    assert not world.active(ANNA)


WRONG: list[Any] = [
    lifecycle(target=None), lifecycle(target=[]), lifecycle(target="x"), lifecycle(target=[{"type": "User"}] * 2),
    lifecycle(person=None), lifecycle(person=7), lifecycle(person="a\0b"), lifecycle(published="soon"),
    lifecycle(uuid=None), lifecycle(uuid="a\0b"), lifecycle(uuid="x" * 300), lifecycle(uuid="\ud800"),
    lifecycle(outcome="x"), lifecycle(outcome={"result": 3}),
]  # fmt: skip


def test_a_wrong_event_does_not_keep_the_others_out(
    client: TestClient, secret: str, world: World, db: Database
) -> None:
    """It opens one dead letter, however often Okta sends it."""
    world.enrolment(ANNA)
    for _ in range(2):
        assert send(client, secret, *WRONG, lifecycle(uuid="the-good-one")).status_code == 200
    assert not world.active(ANNA)
    assert Counter(letter.code for letter in world.letters()) == {"invalid_event": len(WRONG)}
    assert_balanced(db)


def test_a_reused_id_with_other_content_changes_nothing(client: TestClient, secret: str, world: World) -> None:
    for person in (ANNA, "00u2ben", "00u3cleo"):
        world.enrolment(person)
    send(client, secret, lifecycle(uuid="1"))
    assert send(client, secret, lifecycle(person="00u2ben", uuid="1"), lifecycle(person="00u3cleo")).status_code == 200
    assert [world.active(person) for person in (ANNA, "00u2ben", "00u3cleo")] == [False, True, False]


DEEP = b'{"data": {"events": [{"eventType": "user.lifecycle.activate", "x": ' + b"[" * 900 + b"]" * 900 + b"}]}}"


REFUSED = {
    400: [b"nonsense", b"", b"[" * 50_000, b'{"data": 1, "data": 2}', '{"data": "é"}'.encode("latin-1")],
    422: [b"[]", b"{}", b'{"data": {"events": 7}}', b'{"data": {"events": ["x"]}}'],
    413: [b"x" * 300_000],
}


def test_a_body_that_is_not_an_event_hook_is_refused(client: TestClient, secret: str, world: World) -> None:
    """It opens one dead letter, unless it is too large."""
    for status, bodies in REFUSED.items():
        for raw in bodies:
            assert [send(client, secret, raw=raw).status_code for _ in range(2)] == [status, status], raw[:40]
    assert len(world.letters()) == len(REFUSED[400]) + len(REFUSED[422])
    for raw in (DEEP, b'{"data": {"events": [{"eventType": ["x"]}, {}]}}'):
        assert send(client, secret, raw=raw).status_code in (200, 400)


def test_authorization_missing_or_wrong(
    client: TestClient, secret: str, world: World, db: Database, environment: Settings
) -> None:
    """401 with one body for all."""
    world.enrolment(ANNA)
    other = make_source(db, environment, world.organisation("Other"), "elsewhere", "okta")
    wrong = ["", secret[:-1], secret + "x", f"Bearer {secret}", other, "ä"]
    body = json.dumps(hook(lifecycle())).encode()
    answers = [
        client.post(
            "/hooks/okta/okta",
            content=body,
            headers=[(b"content-type", b"application/json"), (b"authorization", value.encode("latin-1"))],
        )
        for value in wrong
    ]
    for source in ("nobody", "%00", "9" * 30):
        headers = {"content-type": "application/json", "authorization": secret}
        answers.append(client.post(f"/hooks/okta/{source}", content=body, headers=headers))
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert world.active(ANNA)


def test_no_secret_and_no_person_in_logs_and_answers(client: TestClient, secret: str, world: World) -> None:
    with structlog.testing.capture_logs() as entries:
        answers = [send(client, secret, lifecycle(), lifecycle(published="00u1anna")), send(client, "x" + secret)]
    said = repr(entries) + "".join(answer.text for answer in answers)
    assert "hook.received" in said
    assert not any(word in said for word in (secret, ANNA, "anna@example.com", "Anna"))
    assert not any(ANNA in row.message for row in world.run("SELECT message FROM withdrawals.dead_letters"))
