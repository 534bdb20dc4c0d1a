"""PostgreSQL clusters of a test's own: a primary with a standby, one whose disk is small; and a read-only database.

The embedded server of the tests has neither a write-ahead log for standbys nor a disk of its own.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psycopg
import pytest
import sqlalchemy

from ops.local.postgres import USER
from ops.local.process import change_owner, command_line, end_process, read_pid, run_program, wait_until
from ops.local.servers import LocalServers
from ops.migrate import migrate
from tests.support.chaos import Admin
from tests.world import World, eventually
from worker.config import settings

_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "max_connections": "100",
    "wal_level": "replica",
    "max_wal_senders": "4",
    "hot_standby": "on",
    "shared_buffers": "64MB",
    "fsync": "on",
    "timezone": "UTC",
}


class Cluster:
    """One server of a test's own, on a Unix socket in its directory; a context manager that ends it."""

    def __init__(
        self, servers: LocalServers, directory: Path, *, log: Path | None = None, programs: Path | None = None
    ) -> None:
        """`log`: where its log goes; beside its data by default. `programs`: of another version of PostgreSQL."""
        self._account = servers.postgres.account
        self._programs = programs or servers.postgres.reachable_programs()
        self.sockets = directory / "s"
        self.data = directory / "data"
        self.log = log or directory / "log"
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)
        self.sockets.mkdir()
        self.log.touch()
        for owned in (directory, self.log):
            change_owner(owned, self._account)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@/withdrawals?host={self.sockets}&port=5432"

    def create(self) -> None:
        """Make an empty cluster."""
        self._run("initdb", "-D", self.data, *f"-U {USER} -A trust -E UTF8 --locale=C --no-sync".split())

    def copy(self, primary: "Cluster", name: str) -> None:
        """Make a standby that streams from `primary`."""
        self._run("pg_basebackup", "-D", self.data, "-R", "-c", "fast", "-d",
                  f"host={primary.sockets} port=5432 user={USER} application_name={name}")  # fmt: skip

    def start(self, **settings: str) -> None:
        """Start it and wait until it answers."""
        given = {**_SETTINGS, "unix_socket_directories": str(self.sockets), **settings}
        options = " ".join(f"-c {name}='{value}'" for name, value in given.items())
        self._run("pg_ctl", "start", "-w", "-s", "-t", "90", "-D", self.data, "-l", self.log, "-o", options)

    def create_database(self, name: str = "withdrawals") -> None:
        """Create an empty database: the service's, or another."""
        with psycopg.connect(self.url.replace("/withdrawals?", "/postgres?"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())

    def version(self) -> int:
        """The major version of the server that runs."""
        with self.connect() as connection:
            return connection.info.server_version // 10_000

    def migrate(self, role: str) -> None:
        """Bring the service's database to the newest schema; `role`: of the service."""
        url = sqlalchemy.make_url(self.url).set(drivername="postgresql+psycopg")
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        migrate(engine, role=role)
        engine.dispose()

    def connect(self) -> Admin:
        return psycopg.connect(self.url, autocommit=True)

    def promote(self) -> None:
        """Make a standby the primary; returns when it takes writes."""
        self._run("pg_ctl", "promote", "-w", "-s", "-t", "90", "-D", self.data)

    def stop(self) -> None:
        """End it as an operator does: its standbys have received all of its commits."""
        self._run("pg_ctl", "stop", "-w", "-s", "-m", "fast", "-t", "90", "-D", self.data)

    def kill(self) -> None:
        """End it as a crash would; returns when nothing of it runs."""
        if pid := self.pid():
            end_process(pid, [(signal.SIGQUIT, 20.0), (signal.SIGKILL, 5.0)])

    def pid(self) -> int | None:
        """The process id of the postmaster; None when it does not run."""
        pid = read_pid(self.data / "postmaster.pid")
        return pid if pid and str(self.data) in command_line(pid) else None

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = run_program([self._programs / program, *arguments], account=self._account)
        assert done.returncode == 0, done.stdout + self.log.read_text(encoding="utf-8")[-2000:]


class Pair:
    """A primary and the standby that streams from it."""

    def __init__(self, primary: Cluster, standby: Cluster) -> None:
        self.primary, self.standby = primary, standby

    @property
    def url(self) -> str:
        """A URL of libpq that names both, the standby first."""
        hosts = ",".join(f"{quote(str(one.sockets), safe='')}:5432" for one in (self.standby, self.primary))
        return f"postgresql://{USER}@{hosts}/withdrawals?target_session_attrs=read-write"

    def make_primary_read_only(self) -> None:
        """As an operator does before a switch-over: at once, also for the sessions that are open."""
        with self.primary.connect() as admin:
            admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            admin.execute("SELECT pg_reload_conf()")

    def promote(self) -> None:
        """Make the standby the primary, once it has what the other has committed."""
        if self.primary.pid():
            with self.primary.connect() as one, self.standby.connect() as other:
                (last,) = one.execute("SELECT pg_current_wal_flush_lsn()").fetchone() or ("",)
                is_replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
                eventually(lambda: other.execute(is_replayed, [last]).fetchone() == (True,))
        self.standby.promote()


@contextmanager
def primary_and_standby(servers: LocalServers, place: Path) -> Iterator[Pair]:
    """Both run, in directories within `place`, until the block ends; the service's database is empty."""
    with Cluster(servers, place / "a") as primary, Cluster(servers, place / "b") as standby:
        primary.create()
        primary.start()
        primary.create_database()
        standby.copy(primary, "standby")
        standby.start()
        yield Pair(primary, standby)


@contextmanager
def directory() -> Iterator[Path]:
    """A directory with a name that is short enough for a socket, which every user can reach."""
    made = Path(tempfile.mkdtemp(prefix="wdc-", dir="/tmp"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A file system of its own with so much room; needs root and the right to mount, else the test is skipped."""
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("a disk of its own needs root")
    with directory() as place:
        made = subprocess.run(
            [mount, "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", place], capture_output=True, check=False
        )
        if made.returncode:
            pytest.skip(f"a disk of its own cannot be mounted: {made.stderr.decode().strip()}")
        try:
            yield place
        finally:
            unmounted = [mount.replace("mount", "umount"), str(place)]
            assert wait_until(lambda: subprocess.run(unmounted, check=False).returncode == 0, seconds=20)


class Ballast:
    """A file that fills what is left of a disk."""

    def __init__(self, place: Path) -> None:
        self._file = place / "ballast"

    def fill(self) -> None:
        """Take all room that there is now."""
        with self._file.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def remove(self) -> None:
        self._file.unlink(missing_ok=True)


@contextmanager
def read_only(world: World) -> Iterator[None]:
    """This test's database refuses writes, in new sessions; the others are ended."""
    name = world.one("SELECT current_database()")
    address = settings().database_url.get_secret_value()
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"

    def switch(statement: str) -> None:
        with psycopg.connect(address, dbname="postgres", autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} {statement}".encode())
            connection.execute(others, [name])
        world.owner.engine.dispose()  # this test's own eyes

    switch("SET default_transaction_read_only = on")
    try:
        yield
    finally:
        switch("RESET default_transaction_read_only")
