"""One id from the door to the outcome: of the caller or made here, answered, stored, and in every line of the log."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from starlette.testclient import TestClient

from tests.support.web import Hr, MakeHr, event
from tests.world import World, decide_due
from worker import logs
from worker.config import Settings
from worker.database import Database


class Lines:
    """The log of this process, as JSON lines."""

    def __init__(self, stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
        """`stream`: what the standard library's handler writes to; the rest goes to stderr as it is now."""
        self._stream, self._capsys, self._direct = stream, capsys, ""

    @property
    def text(self) -> str:
        self._direct += self._capsys.readouterr().err
        return self._stream.getvalue() + self._direct

    def named(self, name: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]
        return [line for line in found if line["event"] == name]

    def named_by(self, name: str) -> list[str]:
        """The requests that lines of this name are about."""
        return sorted(one for line in self.named(name) for one in line["request_ids"])


@pytest.fixture
def lines(
    environment: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Lines]:
    root = logging.getLogger()
    configured, level = structlog.get_config(), root.level
    monkeypatch.setattr(root, "handlers", [])
    stream = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", stream)
        logs.configure(environment.model_copy(update={"log_format": "json"}))
    yield Lines(stream, capsys)
    root.setLevel(level)
    structlog.configure(**configured)


def test_the_callers_id_is_answered_and_a_missing_one_is_made(client: TestClient) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "abc-123"}).headers["x-request-id"] == "abc-123"
    made = [client.get("/healthz").headers["x-request-id"] for _ in range(2)]
    assert made[0] != made[1]
    assert all(len(one) == 32 for one in made)


@pytest.mark.parametrize("given", ["", "a b", "ä", "x" * 129, "-x", "a;b", 'a"b'])
def test_an_id_that_could_harm_a_log_is_replaced(client: TestClient, given: str) -> None:
    answered = client.get("/healthz", headers={b"X-Request-ID": given.encode()}).headers["x-request-id"]
    assert len(answered) == 32
    assert answered != given


def test_an_event_keeps_its_id_through_inbox_job_and_chunk(
    hr: Hr, world: World, db: Database, environment: Settings, lines: Lines
) -> None:
    world.enrolment("anna")
    assert hr.send(event(), headers={"X-Request-ID": "from-hr-7"}).status_code == 202
    decide_due(db, environment)
    assert world.one("SELECT request_id FROM withdrawals.receipts") == "from-hr-7"
    assert world.one("SELECT request_id FROM withdrawals.jobs") == "from-hr-7"
    assert [line["request_id"] for line in lines.named("hook.received")] == ["from-hr-7"]
    assert lines.named_by("inbox.requests_applied") == ["from-hr-7"]
    assert lines.named_by("chunk.decided") == ["from-hr-7"]


def test_a_job_keeps_its_id_and_two_in_one_claim_keep_theirs(
    client: TestClient, world: World, db: Database, environment: Settings, lines: Lines, bearer: object
) -> None:
    headers = bearer("operator")  # type: ignore[operator]
    for name, enrolment_id in zip(("one", "two"), world.enrolments(2), strict=True):
        body = {"reason": "not_required", "enrolment_ids": [enrolment_id]}
        sent = {**headers, "Idempotency-Key": name, "X-Request-ID": name}
        assert client.post("/v1/jobs", json=body, headers=sent).status_code == 202
    decide_due(db, environment)
    assert [line["request_id"] for line in lines.named("job.accepted")] == ["one", "two"]
    assert lines.named_by("chunk.decided") == ["one", "two"]


def test_a_failed_attempt_names_the_requests_of_its_chunks(
    client: TestClient, world: World, db: Database, environment: Settings, lines: Lines, bearer: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    body = {"reason": "not_required", "enrolment_ids": [world.enrolment(pathway_id=world.pathway())]}
    sent = {**bearer("operator"), "Idempotency-Key": "1", "X-Request-ID": "will-fail"}  # type: ignore[operator]
    assert client.post("/v1/jobs", json=body, headers=sent).status_code == 202

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("worker.queue.drain.apply", broken)
    decide_due(db, environment)
    assert "will-fail" in {line.get("request_id") for line in lines.named("chunk.retry")}


def test_a_refused_sign_in_is_logged_without_what_was_presented(
    client: TestClient, make_hr: MakeHr, lines: Lines
) -> None:
    make_hr().send(event("anna-secret"), headers={"webhook-signature": "v1,SECRETSIGNATURE"})
    client.get("/v1/jobs", headers={"Authorization": "Bearer wdt_SECRETTOKEN"})
    client.get("/scim/v2/Users", headers={"Authorization": "Bearer wdt_SECRETTOKEN"})
    client.post("/console/sign-in", data={"token": "wdt_SECRETTOKEN"})
    refused = lines.named("sign_in.refused")
    assert [line["door"] for line in refused] == ["hook", "api", "scim", "console"]
    assert all(line["request_id"] and line["address"] for line in refused)
    assert "SECRET" not in lines.text
    assert "anna" not in lines.text


def test_beyond_the_limit_refused_sign_ins_are_no_longer_logged(
    client: TestClient, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = client.app.state.services  # type: ignore[attr-defined]
    changed = services.settings.model_copy(update={"refusal_limit": 2})
    monkeypatch.setattr(type(services), "settings", property(lambda _: changed), raising=False)
    answers = [client.get("/v1/jobs").status_code for _ in range(5)]
    assert answers == [401, 401, 429, 429, 429]
    assert len(lines.named("sign_in.refused")) == 2
