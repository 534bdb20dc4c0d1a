"""A Redis that hangs: nothing waits for it twice in a round, and the work of the database goes on."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from redis.connection import AbstractConnection
from starlette.testclient import TestClient

from ops.local.servers import LocalServers
from tests.world import World
from worker.config import Settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.queue.relay import Relay
from worker.web.app import make_app

GREETING = 2
"""What redis-py sends on a new connection before the first command."""


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often this process has sent something to Redis."""
    count: Counter[str] = Counter()
    send: Any = AbstractConnection.send_packed_command

    def counting(self: Any, *arguments: Any, **named: Any) -> Any:
        count["sent"] += 1
        return send(self, *arguments, **named)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counting)
    return count


@pytest.fixture
def hung(environment: Settings, servers: LocalServers) -> Iterator[int]:
    """Redis takes connections and answers nothing; its process id, which it is asked for before."""
    pid = servers.redis.pid()
    assert pid
    os.kill(pid, signal.SIGSTOP)
    yield pid
    os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("connected", [True, False])
def test_a_sweep_asks_a_hung_redis_once_and_takes_all_its_steps(
    db: Database, environment: Settings, world: World, hung: int, sent: Counter[str], connected: bool
) -> None:
    broker = make_broker(environment.broker_url.get_secret_value())
    relay = Relay(db, broker, environment)
    if connected:
        os.kill(hung, signal.SIGCONT)
        relay.publish()
        broker.client.ping()
        os.kill(hung, signal.SIGSTOP)
    job = world.submit(db, world.enrolments(1))
    late = world.submit(db, world.enrolments(1), effective_at="2999-01-01")
    world.run("UPDATE withdrawals.jobs SET effective_at = now() WHERE id = :id", id=late.id)
    sent.clear()
    with structlog.testing.capture_logs() as entries:
        relay.sweep()
    assert sent["sent"] <= GREETING + 1
    assert [entry["step"] for entry in entries if entry["event"] == "relay.step_failed"] == ["publish"]
    states = dict(world.run("SELECT id, state FROM withdrawals.jobs"))
    assert states == {job.id: "queued", late.id: "queued"}, "the step after the failure was taken"
    sent.clear()
    relay._publish()
    assert not sent["sent"], "not before the next round"
    os.kill(hung, signal.SIGCONT)
    relay.sweep()
    assert broker.client.llen("withdrawals:due") == 1
    broker.client.close()


@pytest.mark.usefixtures("hung")
def test_readiness_names_a_hung_redis_and_asks_it_once(db: Database, environment: Settings, sent: Counter[str]) -> None:
    app = make_app(db, make_broker(environment.broker_url.get_secret_value()), environment)
    with TestClient(app) as client:
        assert client.get("/readyz").json()["broker"] == {"ok": False, "error": "TimeoutError"}
    assert sent["sent"] <= GREETING + 1
