"""From one release to the next and back, each from its wheel, under load: each request is done once."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import httpx2
import pytest
import sqlalchemy

from ops.local.supervisor import Supervisor
from tests.support import wheels
from tests.support.chaos import Chaos
from tests.support.databases import Cluster
from tests.support.load import Load, slow_platform
from tests.support.processes import CHILDREN
from tests.support.releases import Producers, previous_release
from tests.support.scraping import free_port
from tests.support.wheels import Installed
from tests.world import PATIENCE, World, eventually
from worker.config import Settings, settings
from worker.database import Database

pytestmark = pytest.mark.timeout(900)


class Release:
    """One release, installed from its wheel: its command line, and its processes."""

    def __init__(self, installed: Installed, folder: Path) -> None:
        self._installed, self._folder = installed, folder
        self._environment = {**CHILDREN, "PYTHONPATH": "", "PYTHONSAFEPATH": "1", "WITHDRAWALS_RATE_LIMIT": "0"}
        folder.mkdir()

    def run(self, *words: str) -> str:
        """Run a command; what it printed."""
        ran = subprocess.run(
            [self._installed.withdrawals, *words], env={**os.environ, **self._environment}, cwd=self._folder,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    @contextmanager
    def running(self, producers: Producers) -> Iterator[None]:
        """Web, worker and relay until the block ends; producers send to this web process meanwhile."""
        there = ["env", "-C", str(self._folder), str(self._installed.withdrawals)]
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        commands = {
            "web": [*there, "web"], "relay": [*there, "relay"],
            "worker": [*there, "worker", "--processes", "1", "--threads", "2"],
        }  # fmt: skip
        with Supervisor(commands, self._environment | {"WITHDRAWALS_PORT": str(port)}):
            eventually(lambda: _answers(f"{address}/healthz"), what="web answers")
            producers.addresses.append(address)
            yield
            producers.addresses.remove(address)


@pytest.mark.scenario("up-and-down")
def test_an_upgrade_and_the_way_back_under_load_lose_nothing(
    cluster: Cluster, environment: Settings, chaos: Chaos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old; migrated by the new; both; new alone; old alone, on the new schema; new again."""
    older = Release(wheels.install(tmp_path / "a", previous_release(tmp_path / "previous")), tmp_path / "older")
    newer = Release(wheels.install(tmp_path / "b"), tmp_path / "newer")
    cluster.run(f"CREATE DATABASE {(name := f'updown_{os.getpid()}')}")
    url = sqlalchemy.make_url(environment.database_url.get_secret_value()).set(database=name)
    monkeypatch.setenv("DATABASE_URL", url.render_as_string(hide_password=False))
    settings.cache_clear()
    older.run("migrate")
    owner, database = (Database(settings(), pool_size=4, as_owner=as_owner) for as_owner in (True, False))
    try:
        world = World(owner)
        slow_platform(world)
        load = Load.over(world, database, random=chaos.random)
        producers = Producers(_token(older))
        load.send = producers.send
        with ExitStack() as running:
            first = _start(running, older, producers)
            with load.submitted_meanwhile():
                moments = load.moments(5)
                next(moments)
                newer.run("migrate")
                next(moments)
                second = _start(running, newer, producers)
                next(moments)
                first.close()
                next(moments)
                back = _start(running, older, producers)
                second.close()
                next(moments)
                _start(running, newer, producers)
                back.close()
            chaos.conclude(load.verdict())
    finally:
        owner.close()
        database.close()
        cluster.drop(name)


def _start(running: ExitStack, release: Release, producers: Producers) -> ExitStack:
    """Start a release's processes; they end when what this returns is closed."""
    return running.enter_context(_stack(release.running(producers)))


@contextmanager
def _stack(processes: AbstractContextManager[None]) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        stack.enter_context(processes)
        yield stack


def _token(release: Release) -> str:
    """Of a producer, made by the release that runs."""
    words = ("tokens", "create", "--name", "chaos", "--role", "producer", "--organisation", "Acme", "--json")
    return str(json.loads(release.run(*words))["token"])


def _answers(url: str) -> bool:
    with suppress(httpx2.TransportError):
        return httpx2.get(url, timeout=PATIENCE).is_success
    return False
