"""Other brokers than one Redis: a master that Sentinel exchanges, and RabbitMQ. Their failures cost time alone."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.chaos import Chaos
from tests.support.load import Load, service
from tests.support.rabbitmq import rabbitmq
from tests.support.redis_servers import MASTER, Replicated, replicated
from tests.world import eventually
from worker.config import settings

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="withdrawals-broker-", ignore_cleanup_errors=True) as made:
        yield Path(made)


def use(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process and its children use a broker."""
    monkeypatch.setenv("BROKER_URL", url)
    settings.cache_clear()


@pytest.mark.scenario("redis-failed-over")
def test_work_goes_on_with_the_master_that_sentinel_promotes(
    load: Load, place: Path, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    with replicated(place) as servers:
        use(servers.url, monkeypatch)
        with service():
            with load.submitted_meanwhile():
                for _ in load.moments(1):
                    servers.first.kill()
            eventually(lambda: servers.second.role() == "master", within=300, what="the replica is promoted")
            load.submit("with the new master", load.ids[::3])
            eventually(load.finished, within=120, what="all is decided with the new master")
            exchange_again(servers)
            load.submit("with the old master", load.ids[::5])
            chaos.conclude(load.verdict())


def exchange_again(servers: Replicated) -> None:
    """Start the old master, which Sentinel makes a replica, and let the two change places while both live.

    Sentinel does nothing for 30 s whenever it was kept from running for two (TILT): on a busy machine again and again.
    """
    servers.first.start()
    eventually(lambda: servers.first.role() == "slave", within=300, what="the old master follows the new one")
    eventually(lambda: _fail_over(servers), within=300, what="Sentinel takes it for a replica that can be promoted")
    eventually(lambda: servers.first.role() == "master", within=300, what="it is the master again")


def _fail_over(servers: Replicated) -> bool:
    """Ask Sentinel for it; False: it has not heard from the replica yet that it follows (NOGOODSLAVE)."""
    with servers.sentinels[0].client() as sentinel:
        try:
            sentinel.execute_command("SENTINEL", "FAILOVER", MASTER)
        except redis.ResponseError:
            return False
    return True


@pytest.mark.scenario("rabbitmq-killed")
def test_rabbitmq_killed_and_started_again_loses_nothing(
    load: Load, place: Path, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rabbitmq(place) as server:
        use(server.url, monkeypatch)
        with service():
            with load.submitted_meanwhile():
                for _ in load.moments(1):
                    server.kill()
            load.submit("while RabbitMQ is away", load.ids[::3])
            server.start()
            chaos.conclude(load.verdict())
