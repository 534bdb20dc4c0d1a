"""Real PostgreSQL and Redis for every test that asks: started once, a database cloned from a template each."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import hypothesis
import psycopg
import pytest
import sqlalchemy

from ops.local.postgres import USER
from ops.local.servers import LocalServers
from ops.migrate import migrate
from tests.world import World
from worker.config import Settings, settings
from worker.database import Database

ROLE = "withdrawals_service"

# A limit on the time of one example would depend on the machine.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="session")
def servers() -> Iterator[LocalServers]:
    """PostgreSQL and Redis of this test run; a plain user must be able to reach the directory when we are root."""
    directory = Path(tempfile.mkdtemp(prefix="withdrawals-tests-", dir=_quick()))
    directory.chmod(0o755)
    try:
        with LocalServers(directory / "local") as running:
            yield running
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class Cluster:
    """Makes and drops databases through one connection, which is made again when a test has restarted the server."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    def run(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement outside of a transaction; its rows if it has any."""
        kept, self._connection = self._connection, None
        if kept is not None:
            try:
                found = kept.execute(statement)
            except psycopg.OperationalError:
                broken = kept.broken
                kept.close()
                if not broken:
                    raise
            else:
                self._connection = kept
                return found.fetchall() if found.description else []
        self._connection = psycopg.connect(self._url, autocommit=True)
        found = self._connection.execute(statement)
        return found.fetchall() if found.description else []

    def drop(self, name: str) -> None:
        """Drop a database and end its sessions."""
        # PostgreSQL looks for sessions ten times a second. Those that were closed just now are gone sooner.
        for _ in range(50):
            if not self.run(f"SELECT 1 FROM pg_stat_activity WHERE datname = '{name}' LIMIT 1"):
                break
            time.sleep(0.001)
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


@pytest.fixture(scope="session")
def cluster(servers: LocalServers) -> Iterator[Cluster]:
    """The databases of this test run."""
    found = Cluster(_url(servers, "postgres"))
    # A race that ends in a deadlock need not wait a second until PostgreSQL looks for one.
    found.run(f"ALTER ROLE {USER} SET deadlock_timeout = '100ms'")
    yield found
    found.close()


@pytest.fixture(scope="session")
def template(servers: LocalServers, cluster: Cluster) -> str:
    """A migrated, empty database that tests are cloned from."""
    cluster.run("CREATE DATABASE template_withdrawals")
    engine = sqlalchemy.create_engine(_url(servers, "template_withdrawals", driver=True), poolclass=sqlalchemy.NullPool)
    migrate(engine, role=ROLE)
    engine.dispose()
    return "template_withdrawals"


@pytest.fixture
def environment(
    servers: LocalServers, cluster: Cluster, template: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """Settings of this test: its own database, an empty Redis; also what child processes see."""
    name = f"test_{next(_numbers)}"
    monkeypatch.delenv("DATABASE_DIRECT_URL", raising=False)
    # Copying files takes half the time of the default, which writes every page to the log.
    cluster.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    for variable in [key for key in os.environ if key.startswith("WITHDRAWALS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("DATABASE_URL", _url(servers, name))
    monkeypatch.setenv("BROKER_URL", servers.broker_url)
    # The timeouts of the database follow the lease: a busy machine must not make a healthy statement look stuck.
    monkeypatch.setenv("WITHDRAWALS_LEASE_SECONDS", "30")
    monkeypatch.setenv("WITHDRAWALS_SWEEP_SECONDS", "0.2")
    monkeypatch.setenv("WITHDRAWALS_BACKOFF_SECONDS", "0.05")
    monkeypatch.setenv("WITHDRAWALS_BRAKE_FLOOR", "1000000")  # tests of the brake set limits of their own
    monkeypatch.setenv("WITHDRAWALS_SECRET_KEY", "a-key-of-the-tests-alone")
    _redis(servers)
    settings.cache_clear()
    yield settings()
    settings.cache_clear()
    cluster.drop(name)


@pytest.fixture
def db(environment: Settings) -> Iterator[Database]:
    """The service's connections: its role, its timeouts."""
    database = Database(environment, pool_size=16)
    yield database
    database.close()


@pytest.fixture
def owner(environment: Settings) -> Iterator[Database]:
    """The owner's connections: what the platform itself does, and what a test looks at."""
    database = Database(environment, pool_size=8, as_owner=True)
    yield database
    database.close()


@pytest.fixture
def world(owner: Database) -> World:
    """A platform with one organisation, to be filled by the test."""
    return World(owner)


def _quick() -> str:
    """Memory where the system has it to spare: a database of its own for every test is a lot to write."""
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a name of our own there
    with suppress(OSError):
        if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**31:
            return str(memory)
    return tempfile.gettempdir()


_numbers = iter(range(1, 1_000_000))


def _url(servers: LocalServers, name: str, *, driver: bool = False) -> str:
    url = sqlalchemy.make_url(servers.database_url).set(database=name)
    return (url.set(drivername="postgresql+psycopg") if driver else url).render_as_string(hide_password=False)


def _redis(servers: LocalServers) -> None:
    import redis

    client = redis.Redis.from_url(servers.broker_url)
    client.flushall()
    client.close()
