"""Servers that take no writes: a database made read-only, and a primary with its streaming standby."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import psycopg

from ops.local.postgres import DATABASE, USER, Postgres
from ops.local.process import run_program
from ops.local.servers import LocalServers
from tests.world import World, eventually
from worker.config import settings


class _Primary(Postgres):
    settings: ClassVar[dict[str, str]] = Postgres.settings | {"wal_level": "replica", "max_wal_senders": "4"}


class _Standby(_Primary):
    """Begins as a copy of the primary, and follows it."""

    primary: Path
    """The directory with the primary's socket."""

    def _create_cluster(self, programs: Path) -> None:
        data = self._make_data_directory()
        copied = run_program(
            [programs / "pg_basebackup", "-D", data, "-R", "-c", "fast", "-h", self.primary, "-p", "5432", "-U", USER],
            account=self.account,
        )
        assert copied.returncode == 0, copied.stdout
        if data.parent == self._data.parent:
            data.rename(self._data)
        else:
            self._data.symlink_to(data.rename(self._outside / "postgres"))


class Pair:
    """A primary and its standby."""

    def __init__(self, primary: LocalServers, standby: LocalServers) -> None:
        self._primary, self._standby = primary, standby

    @property
    def url(self) -> str:
        """A URL of libpq that names both, the standby first."""
        hosts = ",".join(f"{quote(str(one.socket_dir), safe='')}:5432" for one in (self._standby, self._primary))
        return f"postgresql://{USER}@{hosts}/{DATABASE}?target_session_attrs=read-write"

    @property
    def standby_url(self) -> str:
        """A URL of the server that follows the other."""
        return self._standby.database_url

    def make_primary_read_only(self) -> None:
        """As an operator does before a switch-over: at once, also for the sessions that are open."""
        self._at(self._primary, "ALTER SYSTEM SET default_transaction_read_only = on")
        self._at(self._primary, "SELECT pg_reload_conf()")

    def stop_primary(self) -> None:
        """Stop it after the standby has received all of its commits."""
        self._primary.postgres.stop()

    def promote(self) -> None:
        """Make the standby the primary, once it has what the other has committed."""
        if self._primary.postgres.pid():
            last = self._at(self._primary, "SELECT pg_current_wal_flush_lsn()::text")
            eventually(lambda: self._at(self._standby, f"SELECT pg_last_wal_replay_lsn() >= '{last}'") == "True")
        self._at(self._standby, "SELECT pg_promote()")

    def _at(self, server: LocalServers, statement: str) -> str:
        with psycopg.connect(server.database_url, autocommit=True) as connection:
            result = connection.execute(statement.encode())
            row = result.fetchone() if result.description else None
            return str(row[0]) if row else ""


@contextmanager
def primary_and_standby() -> Iterator[Pair]:
    """Both run until the block ends."""
    with tempfile.TemporaryDirectory(prefix="withdrawals-pair-", ignore_cleanup_errors=True) as made:
        directory = Path(made)
        directory.chmod(0o755)
        primary, standby = (LocalServers(directory / name, redis=False) for name in ("primary", "standby"))
        for server, kind in ((primary, _Primary), (standby, _Standby)):
            server.postgres = kind(server.state_dir, server.socket_dir, server._account)
        assert isinstance(standby.postgres, _Standby)
        standby.postgres.primary = primary.socket_dir
        with primary, standby:
            yield Pair(primary, standby)


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
