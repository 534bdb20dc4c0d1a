"""Several machines against one PostgreSQL and one Redis; one of them vanishes, which nobody is told."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from ops.chaos.hosts import Host, HostsError, Network
from ops.local.postgres import USER
from ops.local.servers import LocalServers
from ops.local.supervisor import Supervisor
from tests.conftest import ROLE
from tests.support.chaos import Chaos
from tests.support.clusters import Cluster, directory
from tests.support.load import DEADLINE, Load, slow_platform
from tests.support.processes import CHILDREN, RELAY, WORKER
from tests.support.redis_servers import PASSWORD, Server
from tests.world import World, eventually
from worker.config import Settings, settings
from worker.database import Database

WEB = [sys.executable, "-m", "ops", "web"]
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def network() -> Iterator[Network]:
    try:
        with Network() as made:
            yield made
    except HostsError as error:
        pytest.skip(str(error))


@contextmanager
def running(host: Host, *, worker: bool) -> Iterator[None]:
    """Web and relay of a host, and with `worker` a worker."""
    commands = {"web": WEB, "relay": RELAY} | ({"worker": WORKER} if worker else {})
    inside = {f"{host.name} {name}": host.command(command) for name, command in commands.items()}
    with Supervisor(inside, {**CHILDREN, "WITHDRAWALS_HOST": host.address, "WITHDRAWALS_PORT": "8000"}):
        yield


@pytest.mark.scenario("host-vanished")
def test_a_host_that_vanishes_is_healed_and_does_nothing_twice_when_it_is_back(
    servers: LocalServers, environment: Settings, network: Network, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    with directory() as place, Cluster(servers, place / "a") as primary, ExitStack() as stack:
        load = platform(primary, network, place, stack, chaos, monkeypatch)
        lost, *others = [network.host() for _ in range(3)]
        stack.enter_context(running(lost, worker=True))
        eventually(lambda: is_ready(lost), within=60, what="its relay leads, before there is another")
        for other in others:
            stack.enter_context(running(other, worker=False))
        with load.submitted_meanwhile():
            for _ in load.moments(1):
                lost.cut()
                assert sessions_of(primary, lost), "the server does not know that they are gone"
        stack.enter_context(working(others))
        eventually(load.finished, within=DEADLINE, what="the others decide everything, what it had claimed included")
        eventually(lambda: is_ready(others[0]), within=60, what="another relay leads")
        eventually(lambda: not sessions_of(primary, lost), within=90, what="the server ends the sessions of the host")
        lost.mend()
        load.submit("with the host that is back", load.ids[::3])
        eventually(lambda: is_ready(lost), within=90, what="it works again")
        chaos.conclude(load.verdict())


@contextmanager
def working(hosts: list[Host]) -> Iterator[None]:
    """A worker on each of them."""
    with Supervisor({f"{one.name} worker": one.command(WORKER) for one in hosts}, CHILDREN):
        yield


def platform(
    primary: Cluster,
    network: Network,
    place: Path,
    stack: ExitStack,
    chaos: Chaos,
    monkeypatch: pytest.MonkeyPatch,
) -> Load:
    """PostgreSQL and Redis on the bridge, and requests over them."""
    rules = place / "hba"
    rules.write_text(f"local all all trust\nhost all all {network.net} trust\n", encoding="utf-8")
    primary.create()
    primary.start(listen_addresses=network.address, hba_file=str(rules))
    primary.create_database()
    primary.migrate(ROLE)
    broker = Server(place, "redis", f"save ''\nrequirepass {PASSWORD}\n", address=network.address)
    stack.callback(broker.kill)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://{USER}@{network.address}:5432/withdrawals")
    monkeypatch.setenv("BROKER_URL", f"redis://:p%40ss%2Fword@{network.address}:{broker.port}/0")
    settings.cache_clear()
    owner = Database(settings(), pool_size=4, as_owner=True)
    producers = Database(settings().model_copy(update={"lease_seconds": 30}), pool_size=4)
    stack.callback(owner.close)
    stack.callback(producers.close)
    world = World(owner)
    slow_platform(world)
    return Load.over(world, producers, random=chaos.random)


def is_ready(host: Host) -> bool:
    """Whether its web process answers from outside, with all that it needs."""
    with suppress(httpx2.TransportError):
        return httpx2.get(f"http://{host.address}:8000/readyz", timeout=3).status_code == 200
    return False


def sessions_of(primary: Cluster, host: Host) -> int:
    """Connections that the server takes for alive."""
    with primary.connect() as admin:
        row = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE client_addr = %s", [host.address]).fetchone()
    return int(str(row[0])) if row else 0


def test_a_server_whose_process_has_just_ended_is_confined(network: Network) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as lives:
        network.confine([ended.pid, lives.pid], share=0.5)
        assert f"/{network.name}-server" in Path(f"/proc/{lives.pid}/cgroup").read_text(encoding="utf-8")
        lives.kill()
