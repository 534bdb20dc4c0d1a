"""`withdrawals migrate`: bring the schema up to date. Safe to repeat, and to run by two processes at once."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

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

T = TypeVar("T")

MIGRATIONS = Path(__file__).parent / "migrations"
_VERSIONS = MIGRATIONS / "versions"
_TABLE = re.compile(r"withdrawals\.\w+")
LOCK_TIMEOUT = 2000
"""Milliseconds for which a transaction waits for a lock. Whoever waits for one makes all others wait behind it."""
ONLINE_LOCK_TIMEOUT = 600_000
"""Milliseconds for which a statement that runs alone waits. Nobody waits behind it: it waits for old transactions."""
PATIENCE = 120.0
"""Seconds for which a step is repeated that did not get its locks."""
_LOCK = 7_270_001
"""Number of the advisory lock that lets one migration run at a time."""
_BUSY = f"another `withdrawals migrate` has been running on this database for {PATIENCE:.0f} s. Nothing was changed."


@dataclass(frozen=True, slots=True)
class Step:
    """A migration that is still to be run. `online`: statement by statement, outside of a transaction."""

    revision: str
    subject: str
    online: bool


def migrate(engine: Engine, *, role: str, grant: bool = True) -> str:
    """Create or upgrade both schemas, each migration by itself; returns the new revision.

    Schema `lms` belongs to the platform and is created only if it does not exist. With `grant`, `role` is created if
    it does not exist, and gets the rights that it needs, as far as the connecting login may grant them: see
    `grants.missing`.

    An empty database is filled in one transaction. In another one each migration is a transaction, which waits briefly
    for a lock and then begins again, for as long as `PATIENCE` says; or its statements run alone (`ops.online`). When
    it dies, the next run goes on with the step that is missing.

    Raises:
        SettingsError: another migration runs, or the role is missing and this login may not create it.
    """
    _scripts()  # takes long at first, which a transaction must not
    with _session(engine) as connection:
        _take_turn(connection)
        for step in _attempt(connection, partial(_begin, connection, role=role, grant=grant)):
            _attempt(connection, partial(_run, connection, step, role=role, grant=grant), online=step.online)
        _attempt(connection, partial(_complete, connection, role=role, grant=grant))
    return head()


@contextmanager
def _session(engine: Engine) -> Iterator[Connection]:
    """A connection that goes back to no pool: its lock and its settings end with it."""
    with engine.connect() as connection:
        try:
            yield connection
        finally:
            connection.invalidate()


def _take_turn(connection: Connection) -> None:
    """Wait until no other migration runs. It asks again and again: a build of an index waits for those who wait."""

    def ask() -> bool:
        taken = connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": _LOCK})
        connection.commit()
        return bool(taken)

    try:
        tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda taken: not taken),
            stop=tenacity.stop_after_delay(PATIENCE),
            wait=tenacity.wait_fixed(0.1),
        )(ask)
    except tenacity.RetryError:
        raise SettingsError(_BUSY) from None


def _attempt(connection: Connection, work: Callable[[], T], *, online: bool = False) -> T:
    """One transaction, or statements that are committed one by one; again while it does not get its locks."""
    connection.execution_options(isolation_level="AUTOCOMMIT" if online else "READ COMMITTED")
    timeout = ONLINE_LOCK_TIMEOUT if online else LOCK_TIMEOUT
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_passing),
        stop=tenacity.stop_after_delay(PATIENCE),
        wait=tenacity.wait_random_exponential(multiplier=0.5, max=5.0),
        reraise=True,
    ):
        with attempt, connection.begin():
            connection.execute(text(f"SET lock_timeout = '{timeout}ms'"))
            done = work()
    return done


def _begin(connection: Connection, *, role: str, grant: bool) -> list[Step]:
    """The steps of an upgrade; none where there is nothing yet. A role that is missing is found before they are run."""
    if processes.revision(connection) is None:
        return []
    if grant:
        _create_role(connection, role)
    return plan(connection)


def _complete(connection: Connection, *, role: str, grant: bool) -> None:
    """Make what is not there at all, and grant what is missing."""
    if connection.scalar(text("SELECT to_regnamespace('lms') IS NULL")):
        connection.exec_driver_sql((MIGRATIONS / "lms.sql").read_text(encoding="utf-8"))
    # Even IF NOT EXISTS needs the right to create schemas, which the owner of this one may not have.
    if connection.scalar(text("SELECT to_regnamespace('withdrawals') IS NULL")):
        connection.execute(text("CREATE SCHEMA withdrawals"))
    _upgrade(connection, "head")
    if grant:
        grant_rights(connection, role)


def _run(connection: Connection, step: Step, *, role: str, grant: bool) -> None:
    _upgrade(connection, step.revision, alone=step.online)
    if grant and not step.online:  # with the tables: a new trigger may write one for a process of the release before
        for statement in _rights_at(step.revision, role):
            connection.exec_driver_sql(statement)


def _upgrade(connection: Connection, revision: str, *, alone: bool = False) -> None:
    from alembic import command  # noqa: PLC0415 - takes longer to import than most commands run

    command.upgrade(_config(connection=connection, alone=alone), revision)


def _is_passing(error: BaseException) -> bool:
    passing = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
    return isinstance(getattr(error, "orig", error), passing)


def head() -> str:
    """The newest revision, which this code needs."""
    return max(file.name.partition("_")[0] for file in _VERSIONS.glob("[0-9]*.py"))


def plan(connection: Connection) -> list[Step]:
    """The migrations that `migrate` would run, in order.

    Raises:
        SettingsError: the database is at a revision of a newer release.
    """
    scripts, found = _scripts(), processes.revision(connection)
    if found and found > head():
        raise SettingsError(
            f"the database is at revision {found}, of a newer release: this one has up to {head()}. Nothing was "
            "changed. Processes of the release before that one work on it as it is."
        )
    steps = list(scripts.iterate_revisions("head", found or "base"))
    return [
        Step(one.revision, (one.doc or "").strip(), getattr(one.module, "online", False)) for one in reversed(steps)
    ]


def script(steps: Sequence[Step], *, found: str | None, role: str, grant: bool) -> str:
    """The SQL that `migrate` would run on a database at revision `found` (None: an empty one), for psql."""
    lines = [
        f"-- From revision {found or 'none'} to {head()}. Schema lms must exist.",
        "-- Run it with: psql --no-psqlrc --set ON_ERROR_STOP=1 --file FILE",
        "-- If it stops, print it again: what was committed is not repeated.",
        f"DO $$ BEGIN IF NOT pg_try_advisory_lock({_LOCK}) THEN",
        "    RAISE EXCEPTION 'another migration is running'; END IF; END $$;",
        *(_script_of_upgrade(steps, found, role=role, grant=grant) if found else []),
        "BEGIN;",
        f"SET lock_timeout = '{LOCK_TIMEOUT}ms';",
        *([] if found else ["CREATE SCHEMA IF NOT EXISTS withdrawals;", _print("base:head")]),
        *([f"CREATE ROLE {role};"] if grant and not found else []),
        *(grants.statements(role, platform=True) + grants.statements(role, platform=False) if grant else []),
        "COMMIT;",
        f"SELECT pg_advisory_unlock({_LOCK});",
    ]
    return "\n".join(lines) + "\n"


def _script_of_upgrade(steps: Sequence[Step], found: str, *, role: str, grant: bool) -> list[str]:
    lines = []
    for step in steps:
        timeout = ONLINE_LOCK_TIMEOUT if step.online else LOCK_TIMEOUT
        rights = _rights_at(step.revision, role) if grant and not step.online else []
        body = [f"SET lock_timeout = '{timeout}ms';", _print(f"{found}:{step.revision}", alone=step.online), *rights]
        title = f"-- {step.revision}: {step.subject}"
        lines += [title + " Each statement by itself.", *body] if step.online else [title, "BEGIN;", *body, "COMMIT;"]
        found = step.revision
    return lines


def _print(revisions: str, *, alone: bool = False) -> str:
    from alembic import command  # noqa: PLC0415 - takes longer to import than most commands run

    out = io.StringIO()
    config = _config(connection=None, alone=alone)
    config.output_buffer = out
    command.upgrade(config, revisions, sql=True)
    return out.getvalue().strip().replace(";;", ";")


def grant_rights(connection: Connection, role: str) -> None:
    """Create the role if it does not exist, and grant what it needs, as far as this login may.

    Rights on schema `lms` that it cannot grant stay as they are: another login owns that schema.

    Raises:
        SettingsError: there is no such role, and this login may not create one.
    """
    _create_role(connection, role)
    _try(connection, f"GRANT {role} TO CURRENT_USER")
    if grants.missing(connection, role):
        for statement in grants.statements(role, platform=True):
            _try(connection, statement)
    for statement in grants.statements(role, platform=False):
        connection.exec_driver_sql(statement)


def _create_role(connection: Connection, role: str) -> None:
    if connection.scalar(text("SELECT to_regrole(:role) IS NULL"), {"role": role}) and not _try(
        connection,
        # Roles belong to the whole cluster: the migration of another database may create the role at the same time.
        f"DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$",
    ):
        raise SettingsError(
            f"the database has no role {role}, and this login may not create one. Nothing was changed. "
            "`withdrawals grants --print` prints what a login with CREATEROLE has to run."
        )


def _rights_at(revision: str, role: str) -> list[str]:
    """The statements of `grants.sql` about our own schema, without those about a table that comes later."""
    files = (file for file in sorted(_VERSIONS.glob("*.sql")) if file.name.partition("_")[0] <= revision)
    made = "".join(file.read_text(encoding="utf-8") for file in files)
    own = grants.statements(role, platform=False)
    return [one for one in own if all(f"CREATE TABLE {table} " in made for table in _TABLE.findall(one))]


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


def _config(*, connection: Connection | None, alone: bool = False) -> "Config":
    from alembic.config import Config  # noqa: PLC0415 - takes longer to import than most commands run

    config = Config(attributes={"connection": connection, "alone": alone})
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def _scripts() -> "ScriptDirectory":
    from alembic import command  # noqa: F401, PLC0415 - for `_upgrade`, before its transaction begins
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - takes longer to import than most commands run

    return ScriptDirectory.from_config(_config(connection=None))
