"""A PostgreSQL server of the walk's own: over TCP, with passwords, and with nobody of the service a superuser."""

import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from ops.local.postgres import find_programs
from ops.local.process import Account, change_owner
from ops.local.servers import LocalServers
from ops.walk.programs import free_port, run
from ops.walk.waiting import WalkError

DBA = "dba"
"""The superuser. Only the steps that the documentation gives to a DBA use it."""
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "150",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_min_error_statement": "error",
    "log_min_duration_statement": "1000",
}


def programs() -> Path:
    """PostgreSQL's programs: those of the system where it has them, else those of the package for embedded servers."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    places = [*installed, *([Path(on_path).resolve().parent] if on_path else []), find_programs()]
    for place in places:
        if all(os.access(place / name, os.X_OK) for name in ("initdb", "pg_ctl", "psql", "pg_dump", "pg_restore")):
            return place
    raise WalkError("PostgreSQL's programs are missing (Debian: apt-get install postgresql)")


class PostgreSQL:
    """One server below a folder; passwords of its logins by name."""

    def __init__(self, folder: Path) -> None:
        self.account: Account | None = LocalServers(folder / "none").postgres.account
        self.programs = programs()
        self.port = free_port()
        self.log = folder / "postgresql.log"
        self._folder = folder
        self.passwords = {DBA: secrets.token_urlsafe(16)}
        folder.mkdir()
        folder.chmod(0o755)
        password = folder / "password"
        password.write_text(self.passwords[DBA], encoding="utf-8")
        self.log.touch()
        change_owner(folder, self.account)
        self._run("initdb", "-D", self._data, "-U", DBA, "-A", "scram-sha-256", f"--pwfile={password}",
                  "-E", "UTF8", "--locale=C", "--no-sync")  # fmt: skip
        password.unlink()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def version(self) -> str:
        """Such as 15.20."""
        return run([self.programs / "postgres", "--version"]).split()[2]

    def start(self) -> None:
        """Start it and wait until it answers."""
        given = _SETTINGS | {"port": str(self.port), "unix_socket_directories": str(self._folder)}
        options = " ".join(f"-c {name}='{value}'" for name, value in given.items())
        self._run("pg_ctl", "start", "-w", "-s", "-t", "120", "-D", self._data, "-l", self.log, "-o", options)

    def crash(self) -> None:
        """End it at once, without a checkpoint."""
        self._run("pg_ctl", "stop", "-w", "-s", "-m", "immediate", "-D", self._data)

    def close(self) -> None:
        """End it if it runs."""
        if (self._data / "postmaster.pid").exists():
            self.crash()

    def url(self, login: str, database: str) -> str:
        """`DATABASE_URL` of a login."""
        return f"postgresql://{login}:{self.passwords[login]}@127.0.0.1:{self.port}/{database}"

    def make_login(self, name: str, options: str = "") -> None:
        """A DBA makes a login with a password."""
        self.passwords[name] = secrets.token_urlsafe(16)
        self.run(f"CREATE ROLE {name} LOGIN PASSWORD '{self.passwords[name]}' {options}", database="postgres")

    def run(self, *statements: str, database: str = "lms", login: str = DBA) -> None:
        """Run statements as a login, each by itself."""
        with psycopg.connect(self.url(login, database), autocommit=True) as connection:
            for statement in statements:
                try:
                    connection.execute(statement.encode())
                except psycopg.Error as error:
                    raise WalkError(f"as {login}: {statement[:200]}: {error}") from error

    def rows(self, query: str, values: Sequence[Any] = (), *, database: str = "lms") -> list[tuple[Any, ...]]:
        """What a query finds, as the DBA."""
        with psycopg.connect(self.url(DBA, database), autocommit=True) as connection:
            return connection.execute(query.encode(), values or None).fetchall()

    def one(self, query: str, values: Sequence[Any] = (), *, database: str = "lms") -> Any:
        """The first value of the first row."""
        return self.rows(query, values, database=database)[0][0]

    def _run(self, name: str, *words: str | Path) -> None:
        run([self.programs / name, *words], {"PATH": os.environ["PATH"], "LC_ALL": "C"}, account=self.account)
