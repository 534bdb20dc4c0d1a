"""`withdrawals migrate`: bring the schema up to date. Safe to repeat, and to run by two processes at once."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import sqlalchemy.exc
import tenacity
from sqlalchemy import Connection, Engine, text

from ops import grants
from worker.errors import SettingsError
from worker.ledger import processes

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK_TIMEOUT = 2000
"""Milliseconds."""
PATIENCE = 120.0
"""Seconds."""
_DIGITS = 4
"""The name of a migration's file begins with its revision."""
_LOCK = 7_270_001
"""Number of the advisory lock that lets one migration run at a time."""


@dataclass(frozen=True, slots=True)
class Step:
    """A migration that is still to be run."""

    revision: str
    subject: str


def migrate(engine: Engine, *, role: str, grant: bool = True) -> str:
    """Create or upgrade both schemas in one transaction; returns the new revision.

    Schema `lms` belongs to the platform and is created only if it does not exist. With `grant`, `role` is created if
    it does not exist, and gets the rights that it needs, as far as the connecting login may grant them: see
    `grants.missing`.

    A statement that waits for a lock makes everybody else wait behind it. So it waits briefly, and then the whole
    transaction begins again, for as long as `PATIENCE` says.
    """
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_lock_timeout),
        stop=tenacity.stop_after_delay(PATIENCE),
        wait=tenacity.wait_random_exponential(multiplier=0.5, max=5.0),
        reraise=True,
    ):
        with attempt, engine.begin() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}ms'"))
            _upgrade(connection, role=role, grant=grant)
    return head()


def _upgrade(connection: Connection, *, role: str, grant: bool) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    if connection.scalar(text("SELECT to_regnamespace('lms') IS NULL")):
        connection.exec_driver_sql((MIGRATIONS / "lms.sql").read_text(encoding="utf-8"))
    # Even IF NOT EXISTS needs the right to create schemas, which the owner of this one may not have.
    if connection.scalar(text("SELECT to_regnamespace('withdrawals') IS NULL")):
        connection.execute(text("CREATE SCHEMA withdrawals"))
    from alembic import command  # noqa: PLC0415 - takes longer to import than most commands run

    command.upgrade(_config(connection=connection), "head")
    if grant:
        grant_rights(connection, role)


def _is_lock_timeout(error: BaseException) -> bool:
    return isinstance(getattr(error, "orig", error), psycopg.errors.LockNotAvailable)


def head() -> str:
    """The newest revision, which this code needs."""
    return max(file.name for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))[:_DIGITS]


def plan(connection: Connection) -> list[Step]:
    """The migrations that `migrate` would run, in order."""
    scripts, found = _scripts(), processes.revision(connection)
    steps = list(scripts.iterate_revisions("head", found or "base"))
    return [Step(one.revision, (one.doc or "").strip()) for one in reversed(steps)]


def script(found: str | None, *, role: str, grant: bool) -> str:
    """The SQL that `migrate` would run on a database at revision `found` (None: an empty one), as one transaction."""
    from alembic import command  # noqa: PLC0415 - takes longer to import than most commands run

    out = io.StringIO()
    config = _config(connection=None)
    config.output_buffer = out
    command.upgrade(config, f"{found or 'base'}:head", sql=True)
    rights = [f"CREATE ROLE {role};"] if grant and not found else []
    if grant:
        rights += grants.statements(role, platform=True) + grants.statements(role, platform=False)
    lines = [
        f"-- From revision {found or 'none'} to {head()}. Schema lms must exist.",
        "BEGIN;",
        f"SELECT pg_advisory_xact_lock({_LOCK});",
        *(["CREATE SCHEMA IF NOT EXISTS withdrawals;"] if not found else []),
        out.getvalue().strip().replace(";;", ";"),
        *rights,
        "COMMIT;",
    ]
    return "\n".join(lines) + "\n"


def grant_rights(connection: Connection, role: str) -> None:
    """Create the role if it does not exist, and grant what it needs, as far as this login may.

    Rights on schema `lms` that it cannot grant stay as they are: another login owns that schema.

    Raises:
        SettingsError: there is no such role, and this login may not create one.
    """
    if connection.scalar(text("SELECT to_regrole(:role) IS NULL"), {"role": role}) and not _try(
        connection,
        # Roles belong to the whole cluster: the migration of another database may create the role at the same time.
        f"DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$",
    ):
        raise SettingsError(
            f"the database has no role {role}, and this login may not create one. Nothing was changed. "
            "`withdrawals grants --print` prints what a login with CREATEROLE has to run."
        )
    _try(connection, f"GRANT {role} TO CURRENT_USER")
    if grants.missing(connection, role):
        for statement in grants.statements(role, platform=True):
            _try(connection, statement)
    for statement in grants.statements(role, platform=False):
        connection.exec_driver_sql(statement)


def _try(connection: Connection, statement: str) -> bool:
    """Run a statement that only some logins may run; false if this one may not, and then nothing has happened."""
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(statement)
    except sqlalchemy.exc.ProgrammingError as error:
        if not isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise
        return False
    return True


def _config(*, connection: Connection | None) -> "Config":
    from alembic.config import Config  # noqa: PLC0415 - takes longer to import than most commands run

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def _scripts() -> "ScriptDirectory":
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - takes longer to import than most commands run

    return ScriptDirectory.from_config(_config(connection=None))
