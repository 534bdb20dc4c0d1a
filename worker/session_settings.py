"""What every session of the service must have: its role, timeouts below the lease, and times in UTC.

Two ways lead there. The login brings it all with it (`ALTER ROLE … SET`), which also works through a connection pooler.
Or the process sets it, once for each new connection, which works on a direct connection alone: a pooler in
transaction mode hands the server's session to somebody else after each transaction. So whatever is said to the server
at the start, and whatever is set, is read back; a process refuses to work in a session that is not as needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import psycopg
from psycopg.rows import class_row
from psycopg.sql import SQL, Composable, Identifier, Literal

from worker.config import Settings
from worker.errors import SessionError

Session = psycopg.Connection[Any]

PREPARE_AFTER = 5
"""Executions after which psycopg prepares a statement: its default."""
LOGIN = "withdrawals_login"
"""The name that is proposed for a login of the service's own."""
JIT = "jit"
"""Off: to compile a large statement takes longer than to run it, seconds on a busy machine, for every request."""
_UTC = ("UTC", "Etc/UTC")
_WATCHED = {
    "tcp_keepalives_idle": 10,  # seconds
    "tcp_keepalives_interval": 5,  # seconds
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # milliseconds
}
_CANNOT_SET_ROLE = ("42501", "22023")


@dataclass(frozen=True, slots=True)
class Needed:
    """What a session of the service must have. The timeouts are the longest allowed, in milliseconds."""

    role: str
    statement_timeout: int
    lock_timeout: int
    idle_in_transaction_session_timeout: int

    @classmethod
    def by(cls, settings: Settings) -> "Needed":
        """What these settings ask for."""
        statement = round(settings.statement_timeout * 1000)
        return cls(settings.database_role, statement, round(settings.lock_timeout * 1000), statement)


_TIMEOUTS = tuple(field.name for field in fields(Needed) if field.name != "role")


@dataclass(frozen=True, slots=True)
class Found:
    """A session as it is. Timeouts are in milliseconds; 0: none."""

    pid: int
    login: str
    role: str
    database: str
    timezone: str
    statement_timeout: int
    lock_timeout: int
    idle_in_transaction_session_timeout: int
    is_privileged: bool
    """Whether the login is a superuser or owns the service's tables: others use it as well, for other things."""
    role_exists: bool
    pooled: bool = False
    """Whether it leads through a connection pooler."""

    def describe(self) -> str:
        """Role and timeouts in one line."""
        timeouts = ", ".join(f"{name} {getattr(self, name)} ms" for name in _TIMEOUTS)
        through = "through a connection pooler" if self.pooled else "directly"
        return f"{through} as {self.login}, acts as {self.role}; {timeouts}; time zone {self.timezone}"


_READ = b"""
SELECT pg_backend_pid() AS pid, session_user::text AS login, current_user::text AS role,
    current_database()::text AS database, current_setting('TimeZone') AS timezone,
    CAST(1000 * extract(epoch FROM current_setting('statement_timeout')::interval) AS bigint) AS statement_timeout,
    CAST(1000 * extract(epoch FROM current_setting('lock_timeout')::interval) AS bigint) AS lock_timeout,
    CAST(1000 * extract(epoch FROM current_setting('idle_in_transaction_session_timeout')::interval) AS bigint)
        AS idle_in_transaction_session_timeout,
    u.rolsuper OR EXISTS (SELECT FROM pg_namespace WHERE nspname = 'withdrawals' AND nspowner = u.oid)
        AS is_privileged,
    to_regrole(quote_ident(%s)) IS NOT NULL AS role_exists
FROM pg_roles u WHERE u.rolname = session_user"""


def read(session: Session, role: str) -> Found:
    """The session as it is, outside of a transaction. `role`: the service's.

    A pooler is known by the number of the server's process: a pooler answers the client's start itself, and gives it a
    number of its own, by which it finds the session that a cancel request is meant for. PgBouncer's is random in 32
    bits, so one connection in four thousand million is taken for a direct one.

    Raises:
        SessionError: the database has no encoding.
    """
    if session.info.encoding == "ascii":  # text would be read as bytes, and nobody knows which characters they are
        raise SessionError(
            f"the database {session.info.dbname} has the encoding SQL_ASCII, which is none. "
            "The service needs UTF8: restore a dump into a database made with ENCODING 'UTF8' TEMPLATE template0."
        )
    with session.cursor(row_factory=class_row(Found)) as cursor:
        found = cursor.execute(_READ, [role]).fetchone()
    if found is None:
        raise SessionError("DATABASE_URL: PostgreSQL does not tell who is connected")
    return replace(found, pooled=found.pid != session.info.backend_pid)


def faults(found: Found, needed: Needed) -> list[str]:
    """What of a session is not as needed, each as a phrase. A timeout may be shorter, never longer."""
    wrong = [f"role is {found.role}, needed {needed.role}"] if found.role != needed.role else []
    for name in _timeouts_too_long(found, needed):
        limit = getattr(needed, name)
        wrong.append(f"{name} is {getattr(found, name) or 'off'}, needed at most {limit} ms")
    if found.timezone not in _UTC:
        wrong.append(f"timezone is {found.timezone}, needed UTC")
    return wrong


def prepare_service_session(
    session: Session, needed: Needed, *, pooler_prepares: bool, planner_off: Sequence[str] = ()
) -> bool:
    """Make a new connection the service's: check what its login brings, set the rest where it can be set.

    `planner_off`: settings of the planner that are turned off for the whole session, where it is one of its own;
    whether they are. Through a pooler each transaction has to do that.

    Raises:
        SessionError: the session is not as needed, and cannot be made so. The message has the SQL to run.
    """
    with _Autocommit(session):
        found = read(session, needed.role)
        if found.pooled:
            _require(found, needed)
        elif faults(found, needed):
            _set(session, found, needed)
            _require(read(session, needed.role), needed)
        if not found.pooled:
            watch_client(session)
            calls = ", ".join(["set_config(%s, 'off', false)"] * (1 + len(planner_off)))
            _execute(session, f"SELECT {calls}", JIT, *planner_off)
    if pooler_prepares or not found.pooled:
        session.prepare_threshold = PREPARE_AFTER
    return not found.pooled


def watch_client(session: Session) -> None:
    """Let the server end this session, with its transaction and locks, within half a minute after its host vanished.

    By itself it would keep it for two hours. Over a Unix socket the server ignores these settings. Through a pooler the
    server's client is the pooler.
    """
    calls = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in _WATCHED.items())
    _execute(session, f"SELECT {calls}")


def prepare_owner_session(session: Session, needed: Needed) -> None:
    """Make a new connection one of the owner: the login's own rights, and as much time as a migration takes.

    Raises:
        SessionError: it leads through a pooler.
    """
    with _Autocommit(session):
        found = read(session, needed.role)
        require_direct(found, "migrations and loading")
        _execute(session, "SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)")
        _execute(session, "SELECT set_config('timezone', 'UTC', false), set_config(%s, 'off', false)", JIT)
        idle = needed.idle_in_transaction_session_timeout
        _execute(session, "SELECT set_config('idle_in_transaction_session_timeout', %s, false)", str(idle))
        if found.role == needed.role != found.login:  # the login brings the service's role, which may not do this
            _execute(session, "SET ROLE NONE")
    session.prepare_threshold = PREPARE_AFTER


def require_direct(found: Found, what: str) -> None:
    """Refuse a connection through a pooler for what needs a session of its own.

    Raises:
        SessionError: it leads through a pooler.
    """
    if found.pooled:
        raise SessionError(
            f"DATABASE_DIRECT_URL (DATABASE_URL if it is not set): leads through a connection pooler, but {what} need "
            "a session of their own. Set DATABASE_DIRECT_URL to the address of PostgreSQL itself."
        )


def require(session: Session, needed: Needed) -> Found:
    """Read a session back; it is as needed.

    Raises:
        SessionError: it is not.
    """
    with _Autocommit(session):
        found = read(session, needed.role)
    _require(found, needed)
    return found


def statements(found: Found, needed: Needed) -> list[str]:
    """The SQL with which a login brings what a session needs.

    A login that others use as well is left alone: the service gets one of its own.
    """
    own = found.is_privileged and found.login != needed.role
    login, role = Identifier(LOGIN if own else found.login), Identifier(needed.role)
    made: list[Composable] = []
    if own:
        made.append(SQL("CREATE ROLE {} LOGIN PASSWORD '…' IN ROLE {}").format(login, role))
    elif found.login != needed.role:
        made.append(SQL("GRANT {} TO {}").format(role, login))
    given = {name: str(getattr(needed, name)) for name in _TIMEOUTS} | {"timezone": "UTC", JIT: "off"}
    if own or found.login != needed.role:
        given = {"role": needed.role} | given
    database = Identifier(found.database)
    for name, value in given.items():
        setting = SQL("ALTER ROLE {} IN DATABASE {} SET {} = {}")
        made.append(setting.format(login, database, SQL(name), Literal(value)))
    return [f"{statement.as_string(None)};" for statement in made]


def _require(found: Found, needed: Needed) -> None:
    if not found.role_exists:
        raise SessionError(f"the database has no role {needed.role}. Run `withdrawals migrate`.")
    wrong = faults(found, needed)
    if not wrong:
        return
    where = f"DATABASE_URL: the sessions of login {found.login} are not as the service needs them: "
    if not found.pooled:
        raise SessionError(where + "; ".join(wrong) + ".")
    advice = "then let the pooler make new connections (PgBouncer: RECONNECT)"
    if found.is_privileged and found.login != needed.role:
        advice = f"then name {LOGIN} in DATABASE_URL, because {found.login} may do too much"
    raise SessionError(
        f"{where}{'; '.join(wrong)}. The connection leads through a pooler, so the login must bring them.\n"
        f"Run this in PostgreSQL as a superuser, {advice}:\n  " + "\n  ".join(statements(found, needed))
    )


def _set(session: Session, found: Found, needed: Needed) -> None:
    """Set what is not as needed, in one statement, for the whole session."""
    given = {name: str(getattr(needed, name)) for name in _timeouts_too_long(found, needed)}
    if found.timezone not in _UTC:
        given["timezone"] = "UTC"
    if found.role != needed.role:
        given["role"] = needed.role
    calls = ", ".join(["set_config(%s, %s, false)"] * len(given))
    try:
        _execute(session, f"SELECT {calls}", *(part for pair in given.items() for part in pair))
    except psycopg.Error as error:
        if error.sqlstate not in _CANNOT_SET_ROLE:
            raise
        if not found.role_exists:
            raise SessionError(f"the database has no role {needed.role}. Run `withdrawals migrate`.") from None
        grant = SQL("GRANT {} TO {}").format(Identifier(needed.role), Identifier(found.login)).as_string(None)
        raise SessionError(
            f"DATABASE_URL: login {found.login} may not act as role {needed.role}. Run this as a superuser: {grant};"
        ) from None


def _timeouts_too_long(found: Found, needed: Needed) -> list[str]:
    return [name for name in _TIMEOUTS if not 0 < getattr(found, name) <= getattr(needed, name)]


def _execute(session: Session, statement: str, *values: str) -> None:
    session.execute(statement.encode(), values or None)


class _Autocommit:
    """No transaction stays open behind a statement. Whoever uses the connection finds it as it was."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __enter__(self) -> None:
        self._session.rollback()
        self._before = self._session.autocommit
        self._session.autocommit = True

    def __exit__(self, *_: object) -> None:
        if not self._session.closed:
            self._session.autocommit = self._before
