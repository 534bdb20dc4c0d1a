"""Where a benchmark runs: servers of its own, a fresh copy of a filled database for each side, and its processes.

Both sides of a comparison start from the same bytes: a database is filled once, analysed, and copied for each of them.
What the service keeps beside the platform's rows to find people by is there, too: a relay that makes it for the first
time is busy with that for a second for each ten thousand learners, which is no part of what is measured.
"""

import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis
from sqlalchemy import text
from sqlalchemy.engine import make_url

from ops.local.servers import LocalServers
from ops.local.supervisor import Supervisor
from ops.migrate import migrate
from worker import logs
from worker.config import Settings, settings
from worker.database import Database
from worker.garbage import collect_seldom
from worker.search.keeper import keep_all

PATIENCE = 300.0
"""Seconds after which what has not happened is a failure of the row."""
PYTHON = [sys.executable, "-m"]
SERVICE = {name: [*PYTHON, "ops", name] for name in ("web", "worker", "relay")}


class BenchError(Exception):
    """A row cannot be measured: one side did not do the work, or not in time."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a database is filled with: learners `p1`… who leave, and `l1`… with 20 enrolments each for bulk jobs."""

    leavers: int = 0
    """Each has one enrolment, and every eighth has two, as in the data of the demo."""
    bulk: int = 0
    """Enrolments of other learners; their ids follow those of the leavers."""

    @property
    def of_leavers(self) -> int:
        """How many enrolments the leavers have; their ids begin with 1."""
        return self.leavers + self.leavers // 8


class World:
    """One fresh database and an empty Redis: settings, connections, and processes that use them."""

    def __init__(self, size: Size, directory: Path, settle: float) -> None:
        self.size = size
        self.settings: Settings = settings()
        self.owner = Database(self.settings, as_owner=True)
        self.database = Database(self.settings, pool_size=8)
        self.organisation_id = 1
        self._log = directory / "processes.log"
        self._settle = settle

    def close(self) -> None:
        self.owner.close()
        self.database.close()

    def count(self, query: str) -> int:
        """The result of a count, read as the owner."""
        with self.owner.begin() as connection:
            return int(connection.scalar(text(query)) or 0)

    def withdrawn(self) -> int:
        """How many enrolments are withdrawn."""
        return self.count("SELECT count(*) FROM lms.enrolments WHERE status = 'withdrawn'")

    @contextmanager
    def processes(self, *names: str, **others: list[str]) -> Iterator["Processes"]:
        """Run `web`, `worker`, `relay` as their commands start them, and other programs; all ready and idle.

        `PORT` in a command becomes a free port; its program has to answer `/healthz` there.
        """
        port = _free_port()
        commands = {name: SERVICE[name] for name in names}
        commands |= {name: [part.replace("PORT", str(port)) for part in command] for name, command in others.items()}
        serves = "web" in names or any("PORT" in part for command in others.values() for part in command)
        environment = {"WITHDRAWALS_PORT": str(port)}
        with Supervisor(commands, environment, output=self._log) as running:
            if serves:
                until(lambda: _answers(port), what="the web process answers", every=0.1, within=60)
            until(lambda: self._alive(names), what="worker and relay run", every=0.1, within=60)
            time.sleep(self._settle)  # what processes do as they start is over, on either side
            yield Processes(running, port)

    def _alive(self, names: tuple[str, ...]) -> bool:
        wanted = {name: self.settings.processes if name == "worker" else 1 for name in names}
        with self.owner.begin() as connection:
            rows = connection.execute(text("SELECT kind, count(*) FROM withdrawals.processes GROUP BY kind"))
            found = {row[0]: int(row[1]) for row in rows}
        return all(found.get(name, 0) >= count for name, count in wanted.items())


@dataclass(frozen=True, slots=True)
class Processes:
    """The running processes of one side."""

    running: Supervisor
    port: int

    def family(self, name: str) -> list[int]:
        """The process ids of a program: its own, and its children's."""
        found = [self.running.pid(name)]
        for one in found:
            with suppress(OSError):
                children = Path(f"/proc/{one}/task/{one}/children").read_text(encoding="utf-8")
                found += map(int, children.split())
        return found

    @contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """Keep a program from running (SIGSTOP) in this block; it goes on at the end, with no start-up to pay for."""
        pids = self.family(name)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


class Site:
    """The servers of one run, and the filled databases that fresh ones are copied from."""

    def __init__(self, servers: LocalServers, directory: Path, *, settle: float = 1.5) -> None:
        """`settle`: seconds for which processes that are ready are left alone before anything is measured."""
        self._servers = servers
        self._settle = settle
        self.directory = directory
        self._filled: dict[Size, str] = {}
        self._migrated = ""
        self._number = 0

    def server_pids(self) -> list[int]:
        """The first process of PostgreSQL, which starts all others, and its children as they are now."""
        first = self._servers.postgres.pid()
        assert first is not None  # noqa: S101 - it has been started
        children = Path(f"/proc/{first}/task/{first}/children").read_text(encoding="utf-8")
        return [first, *map(int, children.split())]

    @contextmanager
    def fresh(self, size: Size) -> Iterator[World]:
        """A database with this much in it, of which nothing was withdrawn yet, and an empty Redis."""
        template = self._filled.get(size) or self._fill(size)
        name = self._create(template)
        redis.Redis.from_url(self._servers.broker_url).flushall()
        self._use(name)
        world = World(size, self.directory, self._settle)
        try:
            yield world
        finally:
            world.close()
            self._drop(name)

    @contextmanager
    def empty(self) -> Iterator[World]:
        """A migrated database without rows, for what fills its own."""
        with self.fresh(Size()) as world:
            with world.owner.begin() as connection:
                connection.exec_driver_sql("TRUNCATE lms.organisations, lms.series RESTART IDENTITY CASCADE")
            yield world

    def forget(self, size: Size) -> None:
        """Drop a filled database that is not needed any more: a large one takes gigabytes."""
        if size in self._filled:
            self._drop(self._filled.pop(size))

    def close(self) -> None:
        """Drop every database that was filled."""
        for name in (*self._filled.values(), self._migrated):
            if name:
                self._drop(name)

    def version(self) -> str:
        """The version of PostgreSQL."""
        with self._admin() as connection:
            row = connection.execute("SHOW server_version").fetchone()
        return str(row[0]) if row else ""

    def redis_version(self) -> str:
        return str(redis.Redis.from_url(self._servers.broker_url).info("server")["redis_version"])

    def _fill(self, size: Size) -> str:
        if not self._migrated:
            self._migrated = self._create("template1")
            self._use(self._migrated)
            owner = Database(settings(), as_owner=True)
            migrate(owner.engine, role=settings().database_role)
            owner.close()
        name = self._create(self._migrated)
        self._use(name)
        owner = Database(settings(), as_owner=True)
        try:
            with owner.begin() as connection:
                for statement in _FILL:
                    connection.execute(text(statement), {"leavers": size.leavers, "bulk": size.bulk})
            keep_all(owner)
            with owner.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("VACUUM ANALYZE")
        finally:
            owner.close()
        self._filled[size] = name
        return name

    def _create(self, template: str) -> str:
        self._number += 1
        name = f"bench_{self._number}"
        with self._admin() as connection:  # a copy of files begins and ends with a checkpoint
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name

    def _drop(self, name: str) -> None:
        with self._admin() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _use(self, name: str) -> None:
        os.environ["DATABASE_URL"] = self._url(name)
        settings.cache_clear()

    def _admin(self) -> psycopg.Connection:
        return psycopg.connect(self._url("postgres"), autocommit=True)

    def _url(self, name: str) -> str:
        return make_url(self._servers.database_url).set(database=name).render_as_string(hide_password=False)


_FILL = (
    "INSERT INTO lms.organisations (name) VALUES ('bench')",
    "INSERT INTO lms.series (organisation_id, code, title) SELECT 1, 's' || n, 's' FROM generate_series(1, 20) n",
    "INSERT INTO lms.learners (organisation_id, external_id) SELECT 1, 'p' || n FROM generate_series(1, :leavers) n",
    "INSERT INTO lms.learners (organisation_id, external_id) "
    "SELECT 1, 'l' || n FROM generate_series(1, (:bulk + 19) / 20) n",
    "INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status) "
    "SELECT 1, n, 1, 'in_progress' FROM generate_series(1, :leavers) n",
    "INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status) "
    "SELECT 1, n * 8, 2, 'in_progress' FROM generate_series(1, :leavers / 8) n",
    "INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status) SELECT 1, l.id, s.id, 'in_progress' "
    "FROM lms.series s, lms.learners l WHERE l.id > :leavers ORDER BY s.id, l.id LIMIT :bulk",
)


def environment(servers: LocalServers) -> dict[str, str]:
    """The variables with which this process and its children run."""
    return {
        "DATABASE_URL": servers.database_url,
        "BROKER_URL": servers.broker_url,
        "WITHDRAWALS_SECRET_KEY": "a-key-of-the-bench-alone",
        "WITHDRAWALS_BRAKE_FLOOR": str(10**9),  # the benchmark withdraws everybody at once
        "WITHDRAWALS_RATE_LIMIT": str(10**9),  # one token sends all; calls are counted as always
    }


@contextmanager
def open_site(*, settle: float = 1.5) -> Iterator[Site]:
    """Start servers of its own, and remove all of it at the end. `settle`: as of `Site`."""
    logs.silence()
    collect_seldom()  # this process stands for the web process, which does so, too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its servers stop, too
    directory = Path(tempfile.mkdtemp(prefix="withdrawals-bench-", dir="/tmp"))
    directory.chmod(0o755)
    try:
        with LocalServers(directory / "local") as servers:
            os.environ |= environment(servers)
            settings.cache_clear()
            yield Site(servers, directory, settle=settle)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def alternate(number: int, *sides: Callable[[], object]) -> None:
    """Run the sides of one round; every other round begins with the last, so that neither is always the first."""
    for side in sides if number % 2 == 0 else reversed(sides):
        side()


def until(condition: Callable[[], bool], *, what: str, every: float = 0.05, within: float = PATIENCE) -> None:
    """Wait for a condition.

    Raises:
        BenchError: it did not come in time; names it.
    """
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"not within {within:.0f} s: {what}")
        time.sleep(every)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _answers(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
        return True
    return False
