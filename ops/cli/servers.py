"""Which database and broker a command uses: those of the environment, or embedded ones where that was asked for.

A service must never work on an empty embedded database because somebody misspelt a variable. So `up` and `demo` start
embedded servers, and `WITHDRAWALS_EMBEDDED=1` lets any command do it. A command of a person also uses those that `up`
runs at that moment. Everything else says what is missing (ops/decisions/0032).
"""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ops.local.process import NotRunningError
from ops.migrate import head, migrate
from worker import variables
from worker.config import Settings, known_variables, settings
from worker.database import Database
from worker.errors import SettingsError
from worker.ledger import processes

if TYPE_CHECKING:
    from ops.local.servers import LocalServers

_DATABASE, _BROKER = "DATABASE_URL", "BROKER_URL"
_PLEASE_SET = {
    _DATABASE: "Set it to the address of PostgreSQL (postgresql://…)",
    _BROKER: "Set it to the address of Redis (redis://…, rediss://…, redis+sentinel://…) or RabbitMQ (amqp://…)",
}


def local_dir() -> Path:
    """Where embedded servers keep their data."""
    from ops.local.servers import default_state_dir  # noqa: PLC0415 - most processes have servers elsewhere

    chosen = os.environ.get("WITHDRAWALS_LOCAL_DIR")
    return Path(chosen) if chosen else default_state_dir()


@contextmanager
def environment(*, broker: bool = False, join: bool = True) -> Iterator[Settings]:
    """Settings with the URLs that a command needs: the database's, and with `broker` also Redis's.

    `join`: whether embedded servers that run already stand in for URLs that are not set.

    Raises:
        SettingsError: a setting is wrong; or a URL is not set, and no embedded server may take its place.
    """
    given = settings()
    missing = _missing(given, broker=broker)
    if not missing:
        yield given
    elif given.embedded:
        with embedded(broker=broker) as current:
            yield current
    else:
        misspelt = any(variables.misspelt(name, known_variables()) for name in missing)
        if not join or misspelt:
            raise SettingsError(_say_missing(missing))
        with ExitStack() as stack:
            try:
                running = stack.enter_context(_servers(missing, start=False))
            except NotRunningError:
                raise SettingsError(_say_missing(missing)) from None
            yield _use(running, missing)


@contextmanager
def embedded(*, broker: bool = True, keep: bool = False) -> Iterator[Settings]:
    """Settings with both URLs. Embedded servers run meanwhile in place of the ones that are not set.

    `keep`: restart an embedded server that dies.
    """
    missing = _missing(settings(), broker=broker)
    with ExitStack() as stack:
        if missing:
            running = stack.enter_context(_servers(missing, start=True))
            if keep:
                stack.enter_context(running.kept_running())
            current = _use(running, missing)
        else:
            current = settings()
        if _DATABASE in missing:  # an embedded database has nobody else to migrate it
            bring_up_to_date(current)
        yield current


def describe_embedded() -> list[str]:
    """What of the environment is not set, and what is used instead; one line each."""
    lines = []
    for name in _missing(settings(), broker=True):
        what = "PostgreSQL" if name == _DATABASE else "Redis"
        likely = variables.misspelt(name, known_variables())
        hint = f" {likely} is set, but means nothing here: is it misspelt?" if likely else ""
        lines.append(f"{name} is not set: using an embedded {what} in {local_dir()}.{hint}")
    return lines


def bring_up_to_date(current: Settings) -> str:
    """Migrate the database if it is behind this code; return its revision."""
    owner = Database(current, pool_size=1, as_owner=True)
    try:
        with owner.begin() as connection:
            found = processes.revision(connection)
        return head() if found == head() else migrate(owner.engine, role=current.database_role)
    finally:
        owner.close()


def local_secret_key(directory: Path) -> str:
    """The secret key of embedded use, made once, beside the data that it encrypts."""
    path = directory / "secret_key"
    with suppress(FileExistsError):
        fresh = directory / f"secret_key.{os.getpid()}"
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(32) + "\n", encoding="utf-8")
        try:
            os.link(fresh, path)  # atomic, and the first one stays
        finally:
            fresh.unlink()
    return path.read_text(encoding="utf-8").strip()


def _missing(given: Settings, *, broker: bool) -> list[str]:
    missing = [] if given.database_url.get_secret_value() else [_DATABASE]
    if missing and given.database_direct_url.get_secret_value():
        raise SettingsError("DATABASE_DIRECT_URL: is set without DATABASE_URL. Set both, or none.")
    if missing and given.database_replica_url.get_secret_value():
        raise SettingsError("DATABASE_REPLICA_URL: is set without DATABASE_URL. Set both, or none.")
    if broker and not given.broker_url.get_secret_value():
        missing.append(_BROKER)
    return missing


def _say_missing(missing: Sequence[str]) -> str:
    lines = []
    for name in missing:
        likely = variables.misspelt(name, known_variables())
        hint = f" {likely} is set: is it misspelt?" if likely else ""
        lines.append(f"{name}: is not set. {_PLEASE_SET[name]}.{hint}")
    lines.append("To try the service without servers, run `withdrawals up`, or set WITHDRAWALS_EMBEDDED=1.")
    return "\n".join(lines)


def _servers(missing: Sequence[str], *, start: bool) -> "LocalServers":
    from ops.local.servers import LocalServers  # noqa: PLC0415 - most processes have servers elsewhere

    return LocalServers(local_dir(), postgres=_DATABASE in missing, redis=_BROKER in missing, start=start)


def _use(running: "LocalServers", missing: Sequence[str]) -> Settings:
    """Settings that name the running servers; child processes see them as well."""
    if _DATABASE in missing:
        os.environ[_DATABASE] = running.database_url
        if settings().secret_key is None:
            os.environ["WITHDRAWALS_SECRET_KEY"] = local_secret_key(local_dir())
    if _BROKER in missing:
        os.environ[_BROKER] = running.broker_url
    settings.cache_clear()
    return settings()
