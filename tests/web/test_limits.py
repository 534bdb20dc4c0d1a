"""Rate limits by token and by address, none for genuine events; and what happens without Redis."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import structlog
from starlette.testclient import TestClient

from ops.local.servers import LocalServers
from tests.support import processes
from tests.support.web import MakeHr, event
from tests.world import World
from worker.config import Settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.web import rate_limits
from worker.web.app import make_app
from worker.web.rate_limits import CallLimiter, RateLimiter

Bearer = Callable[..., dict[str, str]]


@contextmanager
def limited(db: Database, environment: Settings, **limits: int) -> Iterator[TestClient]:
    """An application with these limits."""
    current = environment.model_copy(update=limits)
    with TestClient(make_app(db, make_broker(current.broker_url.get_secret_value()), current)) as client:
        yield client


def test_a_token_that_calls_too_often_gets_429_and_another_token_does_not(
    db: Database, environment: Settings, bearer: Bearer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = bearer("viewer"), bearer("viewer")
    monkeypatch.setattr(rate_limits, "time", SimpleNamespace(monotonic=lambda: 0.0))  # none comes free meanwhile
    with limited(db, environment, rate_limit=3) as client:
        answers = [client.get("/v1/jobs", headers=one) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[-1].json()["type"] == "urn:withdrawals:problem:too_many_requests"
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert client.get("/v1/jobs", headers=other).status_code == 200
        assert [client.get("/healthz").status_code for _ in range(5)] == [200] * 5


def test_an_address_with_many_refused_calls_gets_429_but_its_valid_tokens_do_not(
    db: Database, environment: Settings, bearer: Bearer
) -> None:
    with limited(db, environment, refusal_limit=2) as client:
        assert [client.get("/v1/jobs").status_code for _ in range(3)] == [401, 401, 429]
        assert client.get("/v1/jobs", headers=bearer("viewer")).status_code == 200


def test_a_genuine_event_is_never_turned_away_for_volume(db: Database, environment: Settings, make_hr: MakeHr) -> None:
    busy = make_hr("busy")
    with limited(db, environment, rate_limit=1, refusal_limit=1) as client:
        wrong = {"webhook-signature": "v1,AAAA"}
        sent = replace(busy, client=client)
        assert [sent.send(event()).status_code // 100 for _ in range(5)] == [2] * 5
        assert [sent.send(event(), headers=wrong).status_code for _ in range(2)] == [401, 429]
        assert sent.send(event()).status_code // 100 == 2, "also from an address with too many refused calls"


def test_a_call_that_is_let_in_asks_redis_nothing(
    db: Database, environment: Settings, bearer: Bearer, world: World
) -> None:
    headers = {**bearer("producer"), "Idempotency-Key": "k"}
    body = {"reason": "not_required", "enrolment_ids": world.enrolments(1)}
    with limited(db, environment) as client, redis.Redis.from_url(environment.broker_url.get_secret_value()) as server:
        before: Any = server.info("stats")
        assert client.post("/v1/jobs", headers=headers, json=body).status_code == 202
        after: Any = server.info("stats")
    assert after["total_commands_processed"] - before["total_commands_processed"] == 1, "the first question itself"


def test_calls_come_free_again_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("worker.web.rate_limits.time.monotonic", lambda: now[0])
    calls = CallLimiter()
    assert [calls.retry_after(1, 3) for _ in range(4)] == [None, None, None, 20]
    assert calls.retry_after(2, 3) is None
    now[0] = 20
    assert [calls.retry_after(1, 3) for _ in range(2)] == [None, 20]
    assert [calls.retry_after(3, 0) for _ in range(5)] == [None] * 5, "0: no limit"


def test_all_processes_count_together(environment: Settings) -> None:
    url = environment.broker_url.get_secret_value()
    one, other = RateLimiter(url), RateLimiter(url)
    assert one.retry_after("k", 1) is None
    assert other.retry_after("k", 1) is not None
    assert other.retry_after("k", 0) is None, "0: no limit"


def test_without_redis_every_call_passes_and_the_log_says_so_once(
    db: Database, environment: Settings, servers: LocalServers, bearer: Bearer, world: World
) -> None:
    headers = {**bearer("producer"), "Idempotency-Key": "k"}
    body = {"reason": "not_required", "enrolment_ids": world.enrolments(1)}
    with limited(db, environment, refusal_limit=1) as client:
        processes.kill_redis(servers)
        try:
            with structlog.testing.capture_logs() as entries:
                refused = [client.get("/v1/jobs").status_code for _ in range(3)]
                statuses = [client.post("/v1/jobs", headers=headers, json=body).status_code for _ in range(3)]
        finally:
            processes.start_redis(servers)
    assert refused == [401, 401, 401]
    assert statuses == [202, 200, 200]
    assert [entry["event"] for entry in entries].count("rate_limits.paused") == 1


def test_it_counts_again_once_redis_is_back(environment: Settings, servers: LocalServers) -> None:
    limiter = RateLimiter(environment.broker_url.get_secret_value(), pause=0)
    processes.kill_redis(servers)
    try:
        with structlog.testing.capture_logs() as entries:
            assert [limiter.retry_after("k", 1) for _ in range(2)] == [None, None]
    finally:
        processes.start_redis(servers)
    with structlog.testing.capture_logs() as later:
        assert limiter.retry_after("k", 1) is None
        assert limiter.retry_after("k", 1) is not None
    assert [entry["event"] for entry in [*entries, *later]] == ["rate_limits.paused", "rate_limits.resumed"]
