"""What a request costs, in statements and commands of Redis: bounds that hold on any machine."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
import redis
from sqlalchemy import event
from starlette.testclient import TestClient

from tests.world import World, eventually
from worker.access import last_used, memory
from worker.config import Settings
from worker.database import Database

Bearer = Callable[..., dict[str, str]]


@pytest.fixture(autouse=True)
def _one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all of a test happen within the second for which a token is remembered."""
    monkeypatch.setattr(memory, "clock", lambda: 0.0)
    monkeypatch.setattr(last_used, "clock", lambda: 0.0)


@dataclass(slots=True)
class Asked:
    """What these connections asked of PostgreSQL; a notification is not one of a request's."""

    statements: list[str] = field(default_factory=list)
    round_trips: int = 0
    """A message of several statements is one, a transaction has two beside its statements."""


@contextmanager
def asked_of(db: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    """Count in a block."""
    asked, execute = Asked(), db.engine.dialect.do_execute
    notifying: set[Any] = set()
    """Connections with a transaction that notifies: another thread's, of this request or of the one before."""

    def statement(*given: Any) -> None:
        if "NOTIFY" in given[2]:
            notifying.add(given[0])
        else:
            asked.statements.append(given[2])
            asked.round_trips += given[4] is not None  # none of its own in a message

    def commit(connection: Any) -> None:
        if connection in notifying:
            notifying.discard(connection)
        else:
            asked.round_trips += 2

    def do_execute(cursor: Any, *given: Any, **named: Any) -> None:
        asked.round_trips += isinstance(cursor, psycopg.ClientCursor)
        execute(cursor, *given, **named)

    event.listen(db.engine, "before_cursor_execute", statement)
    event.listen(db.engine, "commit", commit)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(db.engine.dialect, "do_execute", do_execute)
            yield asked
    finally:
        event.remove(db.engine, "before_cursor_execute", statement)
        event.remove(db.engine, "commit", commit)


def quiet(world: World) -> None:
    """Until what follows the first use of a token, in a thread of its own, has been written."""
    eventually(lambda: world.one("SELECT bool_and(last_used_at IS NOT NULL) FROM withdrawals.tokens"))


def commands(server: redis.Redis) -> int:
    found: Any = server.info("stats")
    return int(found["total_commands_processed"])


def test_a_single_request_is_one_round_trip_without_redis(
    client: TestClient,
    db: Database,
    environment: Settings,
    world: World,
    bearer: Bearer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three statements in it: these connections are not planned by index for good, so one says so."""
    first, second = world.enrolments(2)
    headers = bearer("producer")
    body = {"reason": "not_required", "enrolment_ids": [first]}
    assert client.post("/v1/jobs", headers={**headers, "Idempotency-Key": "1"}, json=body).status_code == 202
    quiet(world)
    with redis.Redis.from_url(environment.broker_url.get_secret_value()) as server, asked_of(db, monkeypatch) as found:
        before = commands(server)
        body["enrolment_ids"] = [second]
        assert client.post("/v1/jobs", headers={**headers, "Idempotency-Key": "2"}, json=body).status_code == 202
        asked = commands(server) - before
    assert (found.round_trips, len(found.statements)) == (1, 3), found
    assert asked == 1, "the question itself"


def test_a_single_request_again_is_two_round_trips(
    client: TestClient, db: Database, world: World, bearer: Bearer, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {**bearer("producer"), "Idempotency-Key": "1"}
    body = {"reason": "not_required", "enrolment_ids": world.enrolments(1)}
    assert client.post("/v1/jobs", headers=headers, json=body).status_code == 202
    quiet(world)
    with asked_of(db, monkeypatch) as found:
        assert client.post("/v1/jobs", headers=headers, json=body).status_code == 200
    assert (found.round_trips, len(found.statements)) == (2, 4), found
