"""Another PostgreSQL takes over, with or without the last commits; and one whose disk is full."""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psycopg
import pytest

from ops.local.servers import LocalServers
from tests.conftest import ROLE
from tests.support.chaos import Admin, Chaos, seconds_pass
from tests.support.clusters import Ballast, Cluster, directory, primary_and_standby, small_disk
from tests.support.load import DEADLINE, KILLS, Load, service, slow_platform
from tests.support.proxy import Proxy
from tests.world import World, eventually
from worker.config import Settings, settings
from worker.database import Database

pytestmark = pytest.mark.timeout(900)


SMALL_LOG = {"max_wal_size": "64MB", "min_wal_size": "32MB"}


@pytest.fixture
def place() -> Iterator[Path]:
    with directory() as made:
        yield made


class Platform:
    """The service's world on clusters of this test, behind a proxy that stands for the address of the primary."""

    def __init__(self, primary: Cluster, proxy: Proxy, chaos: Chaos, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DATABASE_URL", proxy.url(primary.url))
        settings.cache_clear()
        current = settings()
        self.producers = Database(current.model_copy(update={"lease_seconds": 30}), pool_size=4)
        self.owner = Database(current, pool_size=4, as_owner=True)
        world = World(self.owner)
        slow_platform(world)
        self.load = Load.over(world, self.producers, random=chaos.random)
        self.load.persistent = True

    def close(self) -> None:
        self.producers.close()
        self.owner.close()


@pytest.mark.scenario("postgres-promoted")
def test_a_synchronous_standby_that_is_promoted_has_every_accepted_request(
    servers: LocalServers, environment: Settings, place: Path, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    with primary_and_standby(servers, place) as pair:
        primary, standby = pair.primary, pair.standby
        primary.migrate(ROLE)
        _let_commits_wait_for_the_standby(primary)
        with Proxy(primary.sockets) as proxy:
            platform = Platform(primary, proxy, chaos, monkeypatch)
            load = platform.load
            with service():
                with load.submitted_meanwhile():
                    for _ in load.moments(1):
                        primary.kill()
                        standby.promote()
                        proxy.follow(standby.sockets)
                chaos.conclude(load.verdict())
            platform.close()


@pytest.mark.scenario("postgres-behind")
def test_after_a_failover_that_lost_commits_repeated_requests_are_done_once(
    servers: LocalServers, environment: Settings, place: Path, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the database has lost, nobody can know but the producers. They repeat each request with its key."""
    with primary_and_standby(servers, place) as pair:
        primary, standby = pair.primary, pair.standby
        primary.migrate(ROLE)
        with Proxy(primary.sockets) as proxy:
            platform = Platform(primary, proxy, chaos, monkeypatch)
            load = platform.load
            with service():
                with load.submitted_meanwhile():
                    for number in load.moments(2):
                        if number == 0:
                            _stop_streaming(standby)
                            load.submit("will be lost", load.ids[::50])
                        else:
                            accepted = _jobs(primary)
                            primary.kill()
                            standby.promote()
                            assert _jobs(standby) < accepted, "no commit was lost: this test has shown nothing"
                            proxy.follow(standby.sockets)
                load.submit_again()
                chaos.conclude(load.verdict())
            platform.close()


@pytest.mark.scenario("disk-full")
def test_a_full_disk_delays_work_and_loses_none(
    servers: LocalServers, environment: Settings, place: Path, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL refuses, or stops itself; when there is room again and it runs, everything goes on."""
    with small_disk(400) as disk, Cluster(servers, disk, log=place / "log") as primary:
        primary.create()
        primary.start(**SMALL_LOG)
        primary.create_database()
        primary.migrate(ROLE)
        ballast = Ballast(disk)
        with Proxy(primary.sockets) as proxy:
            platform = Platform(primary, proxy, chaos, monkeypatch)
            load = platform.load
            with service():
                with load.submitted_meanwhile():
                    for number in load.moments(max(KILLS // 4, 1)):
                        with primary.connect() as admin:
                            ballast.fill()
                            with suppress(psycopg.OperationalError):
                                _fill_log(admin) if number % 2 == 0 else _fill_tables(admin)
                                seconds_pass(admin, 6)
                        ballast.remove()
                        eventually(partial(_runs_again, primary), within=DEADLINE, what="PostgreSQL runs again")
                chaos.conclude(load.verdict())
            platform.close()
        refused = primary.log.read_text(encoding="utf-8", errors="replace").count("No space left on device")
        assert refused, "there was always room: this test has shown nothing"


def _runs_again(primary: Cluster) -> bool:
    """Whether it answers; started as a service manager would when it has stopped itself."""
    if primary.pid() is None:
        primary.start(**SMALL_LOG)
    with suppress(psycopg.OperationalError):
        primary.connect().close()
        return True
    return False


def _let_commits_wait_for_the_standby(primary: Cluster) -> None:
    with primary.connect() as admin:
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        admin.execute("SELECT pg_reload_conf()")
        eventually(
            lambda: admin.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'").fetchone(),
            what="a synchronous standby",
        )


def _stop_streaming(standby: Cluster) -> None:
    """From now on the standby gets nothing more."""
    with standby.connect() as admin:
        admin.execute("ALTER SYSTEM SET primary_conninfo = ''")
        admin.execute("SELECT pg_reload_conf()")
        eventually(
            lambda: admin.execute("SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM pg_stat_wal_receiver)").fetchone(),
            what="the standby without a primary",
        )


def _jobs(cluster: Cluster) -> int:
    with cluster.connect() as admin:
        row = admin.execute("SELECT count(*) FROM withdrawals.jobs").fetchone()
        assert row is not None
        return int(str(row[0]))


def _fill_log(admin: Admin) -> None:
    """Write to the write-ahead log until there is no room for its next file, at which PostgreSQL stops itself."""
    while True:
        admin.execute("SELECT pg_logical_emit_message(false, 'ballast', repeat('x', 4000000))")


def _fill_tables(admin: Admin) -> None:
    """Use up what is left inside of the files of tables, so that the next rows need room."""
    with suppress(psycopg.errors.DiskFull):
        admin.execute("CREATE TABLE filler AS SELECT repeat('x', 1000) FROM generate_series(1, 100000)")
