"""`withdrawals drill`: take a backup, restore it into a database of its own, and let the books prove it.

A backup that nobody has restored is a hope. PostgreSQL's own programs do the work; what they cannot say, the books say:
whether every request that the backup has is accounted for.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.pq import Conninfo
from pydantic import SecretStr
from sqlalchemy import text

from ops.migrate import head, migrate
from worker.config import Settings
from worker.database import Database
from worker.database_urls import direct_parameters
from worker.errors import SettingsError
from worker.ledger import processes
from worker.reports.books import Books, check

_ENVIRONMENT = {
    option.keyword.decode(): option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar is not None
}
"""The environment variable of each of libpq's parameters: a password has no place in a list of processes."""
_COUNTED = ("jobs", "chunks", "outcomes", "dead_letters", "receipts", "persons", "audit", "seals", "deliveries")


@dataclass(slots=True)
class Drilled:
    """How a drill went."""

    database: str
    """The copy's name."""
    revision: str
    """Of the backup."""
    migrated: bool
    """Whether the copy was brought to the revision that this code needs."""
    books: Books
    bytes: int
    """Of the backup."""
    rows: dict[str, int] = field(default_factory=dict)
    """What the copy has, by table."""
    seconds: dict[str, float] = field(default_factory=dict)


def drill(
    current: Settings, *, dump: Path | None = None, keep: bool = False, on_step: Callable[[str], None] = lambda _: None
) -> Drilled:
    """Restore a backup into a new database of the same server, migrate it if it is older, and check its books.

    `dump`: a backup made by `pg_dump --format=custom`; None: take one now, and delete it afterwards. `keep`: leave the
    copy there.

    Raises:
        SettingsError: PostgreSQL's programs are missing or failed, or the login may not create a database.
    """
    seconds: dict[str, float] = {}
    parameters = direct_parameters(current)
    with TemporaryDirectory(prefix="withdrawals-drill-") as folder, _copy(parameters, keep=keep) as copy:
        if dump is None:
            dump = Path(folder) / "withdrawals.dump"
            with _timed("backup", seconds, on_step):
                _run(parameters, "pg_dump", "--format=custom", f"--file={dump}")
        with _timed("restore", seconds, on_step):
            _run(copy, "pg_restore", "--exit-on-error", f"--dbname={copy['dbname']}", str(dump))
        restored = current.model_copy(
            update={"database_url": SecretStr(_url(copy)), "database_direct_url": SecretStr("")}
        )
        with _timed("migrations", seconds, on_step), closing(Database(restored, as_owner=True)) as owner:
            with owner.begin() as connection:
                found = processes.revision(connection)
            if found is None:
                raise SettingsError("the backup has no schema of the service: was the right database dumped?")
            if found != head():
                migrate(owner.engine, role=current.database_role)
            with owner.begin() as connection:
                rows = {
                    name: int(connection.scalar(text(f"SELECT count(*) FROM withdrawals.{name}")) or 0)
                    for name in _COUNTED
                }
        with _timed("check", seconds, on_step), closing(Database(restored)) as database:
            books = check(database)
        return Drilled(copy["dbname"], found, found != head(), books, dump.stat().st_size, rows, seconds)


@contextmanager
def _copy(parameters: dict[str, Any], *, keep: bool) -> Iterator[dict[str, Any]]:
    """An empty database beside the service's, as parameters of libpq."""
    name = f"withdrawals_drill_{uuid4().hex[:8]}"
    with psycopg.connect(**parameters, autocommit=True) as connection:
        try:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        except psycopg.errors.InsufficientPrivilege:
            raise SettingsError("the login may not create a database: run the drill as one with CREATEDB") from None
    try:
        yield {**parameters, "dbname": name}
    finally:
        if not keep:
            with psycopg.connect(**parameters, autocommit=True) as connection:
                drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
                connection.execute(drop)


def _run(parameters: dict[str, Any], program: str, *words: str) -> None:
    if shutil.which(program) is None:
        raise SettingsError(f"{program} is not on PATH: install PostgreSQL's client programs of the server's version")
    given = {_ENVIRONMENT[name]: str(value) for name, value in parameters.items() if name in _ENVIRONMENT}
    ended = subprocess.run(
        [program, *words], env={**os.environ, **given}, capture_output=True, check=False, stdin=subprocess.DEVNULL
    )
    if ended.returncode:
        said = ended.stderr.decode("utf-8", "replace").strip()
        raise SettingsError(f"{program} failed:\n{said[-2000:]}")


def _url(parameters: dict[str, Any]) -> str:
    """A URL of libpq's parameters."""
    return f"postgresql://?{urlencode({name: value for name, value in parameters.items() if value is not None})}"


@contextmanager
def _timed(step: str, seconds: dict[str, float], on_step: Callable[[str], None]) -> Iterator[None]:
    on_step(step)
    started = time.monotonic()
    yield
    seconds[step] = round(time.monotonic() - started, 1)
