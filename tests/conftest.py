"""Real PostgreSQL and Redis for every test that asks: started once, a database of its own each."""

import functools
import gc
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import httpcore2
import hypothesis
import pytest
import redis
import sqlalchemy

from ops.local.postgres import USER
from ops.local.servers import LocalServers
from ops.migrate import migrate
from tests.support.databases import Cluster, Databases
from tests.support.order import dealt
from tests.support.sessions import Sessions, give_up_waiting, have_patience
from tests.world import World
from worker import config
from worker.config import Settings, settings
from worker.database import Database

ROLE = "withdrawals_service"
_MADE: dict[tuple[str, str], Settings] = {}
FULL = os.environ.get("WITHDRAWALS_TEST_CHAOS") == "full"

# A limit on the time of an example, or on how long it takes to think of some, would depend on the machine. Tests that
# say nothing else take so many examples.
hypothesis.settings.register_profile(
    "suite",
    deadline=None,
    max_examples=100 if FULL else 30,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("suite")


# While tests are collected nothing becomes garbage, and to look for it took a quarter of that time.
gc.disable()
# Each client would read the certificates of all authorities, 30 ms, which is more than a request takes.
httpcore2.default_ssl_context = functools.cache(httpcore2.default_ssl_context)
# Each client of Redis and each application asks for a version, which is read from a file of a thousand lines.
metadata.version = functools.cache(metadata.version)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: part of `make chaos` alone; a smaller test of the same is in the suite")
    config.addinivalue_line(
        "markers", "part(every): of so many cases of a test one is in the suite, the others are long"
    )
    config.addinivalue_line("markers", "counts: what statements read or write is counted, in a database of its own")


def pytest_collection_finish() -> None:
    """From here on look for garbage, and not among what has been collected."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave to `make chaos` what takes long; of the rest, begin with what takes longest."""
    cases = Counter[str]()
    for item in items:
        if part := item.get_closest_marker("part"):
            test = item.nodeid.partition("[")[0]
            if cases[test] % part.args[0]:
                item.add_marker(pytest.mark.long)
            cases[test] += 1
    left = [item for item in items if not FULL and item.get_closest_marker("long")]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
    if processes := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
        items[:] = dealt(items, processes)


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


@pytest.fixture(scope="session")
def cluster(servers: LocalServers) -> Iterator[Cluster]:
    """The databases of this test run."""
    found = Cluster(_url(servers, "postgres"))
    # A race that ends in a deadlock need not wait a second until PostgreSQL looks for one.
    found.run(f"ALTER ROLE {USER} SET deadlock_timeout = '100ms'")
    if not FULL:  # a database is used for less time than it takes, and plans must not depend on when it comes
        found.run("ALTER SYSTEM SET autovacuum = off")
        found.run("SELECT pg_reload_conf()")
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


@pytest.fixture(scope="session")
def databases(cluster: Cluster, template: str) -> Iterator[Databases]:
    """Empty databases for the tests, one after the other."""
    found = Databases(cluster, template)
    yield found
    found.close()


@pytest.fixture
def environment(
    servers: LocalServers, databases: Databases, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Settings]:
    """Settings of this test: its own database, an empty Redis; also what child processes see."""
    # Where it is counted what is read, the dead rows of an earlier test would decide for another index.
    name = databases.take(new=request.node.get_closest_marker("counts") is not None)
    monkeypatch.delenv("DATABASE_DIRECT_URL", raising=False)
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
    _redis(servers.broker_url).flushall()
    settings.cache_clear()
    yield _settings((_url(servers, name), servers.broker_url), monkeypatch)
    settings.cache_clear()
    databases.give_back(name)


@pytest.fixture
def sessions(databases: Databases) -> Sessions:
    """Sessions of earlier tests, to make a `Database` with."""
    return databases.sessions


@pytest.fixture
def db(sessions: Sessions, environment: Settings) -> Iterator[Database]:
    """The service's connections: its role, and patience, so that a busy machine ends no statement and no wait.

    What passes by itself is tried again for as long as `environment` says.
    """
    retry_seconds = environment.lease_seconds / 2
    with sessions.database(have_patience(environment), pool_size=16, retry_seconds=retry_seconds) as database:
        yield database


@pytest.fixture
def quick_db(sessions: Sessions, environment: Settings) -> Iterator[Database]:
    """The service's connections, which soon give up waiting for a lock. Only for that they have no time."""
    with sessions.database(have_patience(environment), pool_size=4, retry_seconds=1.5) as database:
        give_up_waiting(database, 0.1)
        yield database


@pytest.fixture
def owner(sessions: Sessions, environment: Settings) -> Iterator[Database]:
    """The owner's connections: what the platform itself does, what a test looks at, and what it holds meanwhile."""
    retry_seconds = environment.lease_seconds / 2
    patient = have_patience(environment)
    with sessions.database(patient, pool_size=8, as_owner=True, retry_seconds=retry_seconds) as database:
        yield database


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


def _url(servers: LocalServers, name: str, *, driver: bool = False) -> str:
    url = sqlalchemy.make_url(servers.database_url).set(database=name)
    return (url.set(drivername="postgresql+psycopg") if driver else url).render_as_string(hide_password=False)


class _Known:
    """Stands for the class of settings that are made already."""

    model_fields = Settings.model_fields

    def __init__(self, made: Settings) -> None:
        self._made = made

    def __call__(self) -> Settings:
        return self._made


def _settings(servers: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What `settings()` gives; those with the same servers are read from the environment once."""
    if made := _MADE.get(servers):
        with monkeypatch.context() as known:
            known.setattr(config, "Settings", _Known(made))
            return settings()
    _MADE[servers] = made = settings()
    return made


@functools.cache
def _redis(url: str) -> "redis.Redis":
    """A client that stays: it connects again where a test has restarted Redis."""
    return redis.Redis.from_url(url)
