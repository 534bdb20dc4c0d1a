"""The URLs of PostgreSQL as libpq's connection parameters: the service's, one without a pooler, and the replica's."""

from typing import Any

import psycopg
import sqlalchemy.exc
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import make_url

from worker import config
from worker.config import Settings
from worker.errors import SettingsError


def parse_url(value: str, *, variable: str = "DATABASE_URL", prefer: str = "read-write") -> dict[str, Any]:
    """libpq's connection parameters from `DATABASE_URL`, or from another `variable`.

    The URL may name several servers (PostgreSQL's manual, "Connection URIs"), which SQLAlchemy cannot read:
    `postgresql://user@one:5432,two:5432/name`. Unless it says otherwise, the one that takes writes is used; `prefer`
    is another value of libpq's `target_session_attrs`.

    Raises:
        SettingsError: it is not a PostgreSQL URL. The message does not quote it: it may hold a password.
    """
    scheme, separator, rest = value.partition("://")
    if separator and scheme not in ("postgresql", "postgresql+psycopg"):
        raise SettingsError(f"{variable}: must begin with postgresql://")
    try:
        found = _parse_one_server(rest) if separator else None
        parameters = found or conninfo_to_dict(f"postgresql://{rest}" if separator else "not a URL")
    except (psycopg.ProgrammingError, UnicodeEncodeError):  # the latter: bytes of the environment that are not UTF-8
        raise SettingsError(f"{variable}: cannot be read; it looks like postgresql://user@host/name") from None
    if "," in str(parameters.get("host", "")):
        parameters.setdefault("target_session_attrs", prefer)
    return parameters


def direct_parameters(settings: Settings) -> dict[str, Any]:
    """libpq's connection parameters for what needs a session of its own: `DATABASE_DIRECT_URL`, else `DATABASE_URL`.

    Raises:
        SettingsError: it is not a PostgreSQL URL.
    """
    direct = config.newest("database_direct_url", settings.database_direct_url)
    if direct:
        return parse_url(direct, variable="DATABASE_DIRECT_URL")
    return service_parameters(settings)


def service_parameters(settings: Settings) -> dict[str, Any]:
    """libpq's connection parameters from `DATABASE_URL`.

    Raises:
        SettingsError: it is not a PostgreSQL URL.
    """
    return parse_url(config.newest("database_url", settings.database_url))


def replica_parameters(settings: Settings) -> dict[str, Any]:
    """libpq's connection parameters from `DATABASE_REPLICA_URL`; of several servers, a standby before the primary.

    Raises:
        SettingsError: it is not a PostgreSQL URL.
    """
    url = config.newest("database_replica_url", settings.database_replica_url)
    return parse_url(url, variable="DATABASE_REPLICA_URL", prefer="prefer-standby")


def _parse_one_server(rest: str) -> dict[str, Any] | None:
    """As SQLAlchemy reads it, which also takes a `/` or `?` in the password, where libpq wants it escaped."""
    try:
        url = make_url(f"postgresql+psycopg://{rest}")
        return dict(url.get_dialect()().create_connect_args(url)[1])
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return None
