"""PostgreSQL holds all work: while it is away or refuses, work waits; what it has committed is done once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import psycopg
import pytest

from ops.local.servers import LocalServers
from tests.support import processes
from tests.support.chaos import Admin, Chaos, administrator, left_running, seconds_pass
from tests.support.load import DEADLINE, KILLS, Load, service, slow_platform
from tests.support.processes import Mode
from tests.support.proxy import Proxy
from tests.world import World, eventually
from worker.config import Settings, settings
from worker.database import Database

pytestmark = pytest.mark.timeout(900)

FEW = max(KILLS // 3, 1)
FOR = 6
"""Seconds of a fault: longer than a lease."""


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param("immediate", marks=pytest.mark.scenario("postgres-crashed", small=True)),
        pytest.param("fast", marks=pytest.mark.scenario("postgres-restarted")),
    ],
)
def test_postgresql_that_recovers_from_a_crash_in_the_middle_keeps_every_request(
    load: Load, servers: LocalServers, chaos: Chaos, mode: Mode
) -> None:
    with left_running(servers), service():
        with load.submitted_meanwhile():
            for _ in load.moments(FEW):
                processes.restart_postgres(servers, mode)
        chaos.conclude(load.verdict())


@pytest.mark.scenario("connections-exhausted")
def test_connections_that_others_have_taken_delay_work_and_lose_none(
    load: Load, environment: Settings, chaos: Chaos
) -> None:
    load.persistent = True
    with administrator(environment) as admin, service():
        with load.submitted_meanwhile():
            for _ in load.moments(FEW):
                with connections_taken(environment, admin):
                    seconds_pass(admin, FOR)
        chaos.conclude(load.verdict())


@pytest.mark.scenario("read-only")
def test_a_database_that_is_read_only_for_a_while_loses_nothing(
    load: Load, environment: Settings, chaos: Chaos
) -> None:
    load.persistent = True
    with administrator(environment) as admin, service():
        with load.submitted_meanwhile():
            for _ in load.moments(FEW):
                set_read_only(admin, True)
                seconds_pass(admin, FOR)
                set_read_only(admin, False)
        chaos.conclude(load.verdict())
        # An attempt in hand may fail; no chunk is blamed for it, and none is split, which only its own errors cause.
        assert not load.world.run("SELECT * FROM withdrawals.chunks WHERE own_failures > 0 OR state = 'split'")


@pytest.mark.scenario("answers-lost")
def test_commits_whose_answers_are_lost_at_random_are_done_once(
    world: World, environment: Settings, servers: LocalServers, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every process and every producer goes through a proxy that cuts around one commit in ten."""
    slow_platform(world)
    with Proxy(servers.socket_dir, cut=0.1, random=chaos.random) as proxy:
        monkeypatch.setenv("DATABASE_URL", proxy.url(environment.database_url.get_secret_value()))
        settings.cache_clear()
        producers = Database(settings().model_copy(update={"lease_seconds": 30}), pool_size=4)
        load = Load.over(world, producers, random=chaos.random)
        with service():
            with load.submitted_meanwhile():
                pass
            eventually(load.finished, within=DEADLINE, what="all jobs finished")
            proxy.cut = 0.0
            chaos.conclude(load.verdict())
        producers.close()
    assert proxy.cuts > len(load.ids) // 40, "hardly a commit was cut: this test has shown nothing"


@contextmanager
def connections_taken(environment: Settings, admin: Admin) -> Iterator[None]:
    """Take every connection of the server: end those of the service, and be there first."""
    url = environment.database_url.get_secret_value()
    taken: list[Admin] = []
    stopping = threading.Event()

    def take() -> None:
        while not stopping.is_set():
            try:
                taken.append(psycopg.connect(url, autocommit=True, application_name="taker", connect_timeout=5))
            except psycopg.OperationalError:
                stopping.wait(0.02)

    takers = [threading.Thread(target=take) for _ in range(4)]
    for taker in takers:
        taker.start()
    try:
        eventually(partial(_is_full, url), what="no connection left")
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'withdrawals%'"
        )
        yield
    finally:
        stopping.set()
        for taker in takers:
            taker.join()
        for connection in taken:
            connection.close()


def _is_full(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        return "too many clients" in str(error)
    return False


def set_read_only(admin: Admin, on: bool) -> None:
    """Make the database read-only for every session but `admin`, or writable again."""
    database = admin.info.dbname
    admin.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = {'on' if on else 'off'}".encode())
    admin.execute(
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()"""
    )
