"""PgBouncer in transaction mode before the test server, with few sessions, as an unprivileged user."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from ops.local.process import change_owner, wait_until
from ops.local.servers import LocalServers

LOGIN = "pooled_login"
"""Brings role and timeouts in the databases of tests that ask for it."""
_PORT = 6432
_SESSIONS = 8
_INI = """
[databases]
* = host={sockets} port=5432
[pgbouncer]
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 200
query_wait_timeout = 120
listen_addr =
listen_port = {port}
unix_socket_dir = {directory}
auth_type = trust
auth_file = {directory}/users
admin_users = {login}
logfile = {directory}/log
pidfile = {directory}/pid
"""


class PgBouncer:
    """One that runs. Its addresses name the databases of the test server."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def url(self, direct_url: str, login: str = LOGIN) -> str:
        """The address of a database through the pooler."""
        database = sqlalchemy.make_url(direct_url).database
        return f"postgresql://{login}@/{database}?host={self._directory}&port={_PORT}"

    def reconnect(self) -> None:
        """Let it make new connections to the server, so that they begin with what the login brings by now."""
        with psycopg.connect(self.url("postgresql:///pgbouncer"), autocommit=True, prepare_threshold=None) as admin:
            admin.pgconn.exec_(b"RECONNECT")


def find_program() -> str:
    """The system's PgBouncer. Without one the test is skipped, except in CI."""
    found = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("PgBouncer is not installed")
        pytest.skip("PgBouncer is not installed: these tests go through one (Debian: apt-get install pgbouncer)")
    return found


@contextmanager
def pgbouncer(servers: LocalServers) -> Iterator[PgBouncer]:
    """It runs until the block ends."""
    program = find_program()
    account = servers.postgres.account
    with tempfile.TemporaryDirectory(prefix="withdrawals-pgbouncer-", ignore_cleanup_errors=True) as made:
        directory = Path(made)
        (directory / "ini").write_text(
            _INI.format(sockets=servers.socket_dir, sessions=_SESSIONS, port=_PORT, directory=directory, login=LOGIN),
            encoding="utf-8",
        )
        names = (LOGIN, "withdrawals", "plain_login", "withdrawals_login")
        (directory / "users").write_text("".join(f'"{name}" ""\n' for name in names), encoding="utf-8")
        change_owner(directory, account)
        child = subprocess.Popen(
            [program, "-q", directory / "ini"],
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            socket = directory / f".s.PGSQL.{_PORT}"
            assert wait_until(lambda: socket.exists() or child.poll() is not None, seconds=60)
            assert child.poll() is None, (directory / "log").read_text(encoding="utf-8")
            yield PgBouncer(directory)
        finally:
            child.kill()
            child.wait()
