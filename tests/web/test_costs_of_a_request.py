"""What a request costs, in statements and commands of Redis: bounds that hold on any machine."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from sqlalchemy import event
from starlette.testclient import TestClient

from tests.world import World
from worker.access import last_used, memory
from worker.config import Settings
from worker.database import Database

Bearer = Callable[..., dict[str, str]]


@pytest.fixture(autouse=True)
def _one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all of a test happen within the second for which a token is remembered."""
    monkeypatch.setattr(memory, "clock", lambda: 0.0)
    monkeypatch.setattr(last_used, "clock", lambda: 0.0)


@contextmanager
def statements_of(db: Database) -> Iterator[list[str]]:
    """The statements and commits of these connections; a notification is not one of a request's."""
    found: list[str] = []

    def statement(*given: Any) -> None:
        if "NOTIFY" not in given[2]:
            found.append(given[2])

    def commit(_: Any) -> None:
        found.append("COMMIT")

    event.listen(db.engine, "before_cursor_execute", statement)
    event.listen(db.engine, "commit", commit)
    try:
        yield found
    finally:
        event.remove(db.engine, "before_cursor_execute", statement)
        event.remove(db.engine, "commit", commit)


def commands(server: redis.Redis) -> int:
    found: Any = server.info("stats")
    return int(found["total_commands_processed"])


def test_a_single_request_is_one_transaction_of_three_statements_without_redis(
    client: TestClient, db: Database, environment: Settings, world: World, bearer: Bearer
) -> None:
    first, second = world.enrolments(2)
    headers = bearer("producer")
    body = {"reason": "not_required", "enrolment_ids": [first]}
    assert client.post("/v1/jobs", headers={**headers, "Idempotency-Key": "1"}, json=body).status_code == 202
    with redis.Redis.from_url(environment.broker_url.get_secret_value()) as server, statements_of(db) as found:
        before = commands(server)
        body["enrolment_ids"] = [second]
        assert client.post("/v1/jobs", headers={**headers, "Idempotency-Key": "2"}, json=body).status_code == 202
        asked = commands(server) - before
    assert found.count("COMMIT") == 1
    assert len(found) - 1 <= 3, found
    assert asked == 1, "the question itself"


def test_a_single_request_again_is_one_transaction_of_three_statements(
    client: TestClient, db: Database, world: World, bearer: Bearer
) -> None:
    headers = {**bearer("producer"), "Idempotency-Key": "1"}
    body = {"reason": "not_required", "enrolment_ids": world.enrolments(1)}
    assert client.post("/v1/jobs", headers=headers, json=body).status_code == 202
    with statements_of(db) as found:
        assert client.post("/v1/jobs", headers=headers, json=body).status_code == 200
    assert found.count("COMMIT") == 1
    assert len(found) - 1 <= 3, found
