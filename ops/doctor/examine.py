"""`withdrawals doctor`: can the service reach what it needs, and is its set-up safe?"""

import importlib.metadata
import platform
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from ops.doctor import platform_contract, settings, surroundings
from ops.doctor.findings import Finding
from ops.doctor.sign_in import sign_in
from ops.local.servers import is_embedded
from ops.migrate import head
from worker.access import keys
from worker.config import Settings
from worker.database import Database
from worker.database_urls import parse_url, replica_parameters
from worker.errors import SessionError, SettingsError
from worker.faults import describe
from worker.ledger import hr_sources as ledger
from worker.ledger import leader, processes, replication
from worker.people.source_secrets import source_seal
from worker.queue import leadership, redis_clients
from worker.queue.broker import open_broker
from worker.queue.hints import is_rabbitmq
from worker.reports.reader import NotAStandbyError, seconds_behind

OLDEST_POSTGRES = 150000
OLDEST_REDIS = (6, 2)
LONG_ROTATION = timedelta(days=7)
"""A source should not have two accepted secrets for longer than this."""
MIN_KEY_LENGTH, MIN_DIFFERENT = 32, 10
"""Characters, and different characters, that a random key has at least."""


def examine(current: Settings) -> list[Finding]:
    """Look at database, schemas, rights, sessions, broker, relay, clock, TLS, proxies and settings."""
    findings = [_versions(), *surroundings.embedded(current)]
    database = Database(current, pool_size=1)
    try:
        findings += _try("database", lambda: _postgres(database))
        findings += _try("session", lambda: _session(database))
        findings += _try("direct", lambda: _direct(current))
        findings += _try("replica", lambda: _replica(current, database))
        findings += _try("lms", lambda: _ask(database, platform_contract.shape))
        findings += _try("rights", lambda: _ask(database, platform_contract.rights, current.database_role))
        if not is_embedded(current.database_url.get_secret_value()):
            findings += _try("login", lambda: _ask(database, surroundings.login))
            findings += _try(
                "tls", lambda: _ask(database, surroundings.database_tls, _parameters(current), "DATABASE_URL")
            )
        findings += _try("connections", lambda: _ask(database, settings.connections, current))
        findings += _try("clock", lambda: _ask(database, surroundings.clock))
        findings += _try("relay", lambda: _relay(database))
        findings += _try("sources", lambda: _sources(database, current))
        findings += _try("sealed", lambda: _sealed(database, current))
        findings += _try("sign-in", lambda: sign_in(database, current))
    finally:
        database.close()
    findings += _try("broker", lambda: _broker(current))
    if not is_embedded(current.broker_url.get_secret_value()):
        findings += surroundings.broker_tls(current)
    findings += surroundings.proxies(current)
    findings += _secret_key(current)
    findings += settings.examine(current)
    return findings


def _parameters(current: Settings) -> dict[str, Any]:
    return parse_url(current.database_url.get_secret_value())


def _session(database: Database) -> list[Finding]:
    return [Finding("ok", "session", database.verify().describe()), *_ask(database, surroundings.jit)]


def _versions() -> Finding:
    names = ("withdrawals", "dramatiq", "sqlalchemy", "psycopg", "redis")
    found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    found += f", Python {platform.python_version()}"
    return Finding("ok", "versions", found)


def _postgres(database: Database) -> list[Finding]:
    with database.begin() as connection:
        number = int(str(connection.scalar(text("SHOW server_version_num"))))
        version = connection.scalar(text("SHOW server_version"))
        revision = processes.revision(connection)
        fsync = connection.scalar(text("SHOW fsync"))
        takes_writes = processes.takes_writes(connection)
    level = "ok" if number >= OLDEST_POSTGRES else "wrong"
    findings = [Finding(level, "database", f"PostgreSQL {version}" + ("" if level == "ok" else "; needs 15 or later"))]
    findings.append(_schema(revision))
    if not takes_writes:
        advice = "is read-only, so nothing is accepted: let DATABASE_URL name the primary, or every server"
        findings.append(Finding("wrong", "database", advice))
    if fsync != "on":
        findings.append(Finding("wrong", "database", "fsync is off, so a crash can lose accepted jobs: switch it on"))
    return findings


def _schema(revision: str | None) -> Finding:
    if revision is None or revision < head():
        advice = f"revision {revision or 'none'}, needs {head()}: run `withdrawals migrate`"
        return Finding("wrong", "schema", advice)
    if revision > head():
        advice = f"revision {revision} of a newer release, this one made {head()}: go on to that release soon"
        return Finding("warn", "schema", advice)
    return Finding("ok", "schema", f"revision {revision}")


def _direct(current: Settings) -> list[Finding]:
    """Whether relay and migrations have a connection to the server itself."""
    with leadership.open_session(current) as session:
        session.execute("SELECT 1")
    return [Finding("ok", "direct", "relay and migrations reach PostgreSQL without a pooler")]


def _replica(current: Settings, primary: Database) -> list[Finding]:
    """Whether the replica answers, as the service's role, and how far it is behind."""
    if not current.database_replica_url.get_secret_value():
        return []
    replica = Database(current, pool_size=1, replica=True)
    try:
        session = Finding("ok", "replica", replica.verify().describe())
        findings = [session, *_lag(current, primary, replica)]
        if not is_embedded(current.database_url.get_secret_value()):
            findings += _ask(replica, surroundings.database_tls, replica_parameters(current), "DATABASE_REPLICA_URL")
        return findings
    finally:
        replica.close()


def _lag(current: Settings, primary: Database, replica: Database) -> list[Finding]:
    with primary.begin() as connection:
        written = replication.written(connection)
    try:
        behind = seconds_behind(replica, written)
    except NotAStandbyError:
        advice = "is no standby, so nothing is read from it: let DATABASE_REPLICA_URL name a standby of DATABASE_URL"
        return [Finding("warn", "replica", advice)]
    if behind is None or behind > current.replica_lag_seconds:
        how = "has replayed no commit since it started" if behind is None else f"is {behind:.0f} s behind"
        return [Finding("warn", "replica", f"{how}, so reports are read from the primary: is it streaming?")]
    return [Finding("ok", "replica", f"a standby, {behind:.1f} s behind")]


def _relay(database: Database) -> list[Finding]:
    with database.begin() as connection:
        leads, threads = leader.read(connection), processes.worker_threads(connection, at_least=0)
    relay = Finding("warn", "relay", "no relay is running, so nothing wakes the workers: start `withdrawals relay`")
    if leads.is_alive:
        relay = Finding("ok", "relay", f"last heartbeat {leads.seconds_since_seen:.0f} s ago")
    if leads.is_alive and leads.failing:
        steps = ", ".join(f"{found.step} ({found.failures} times: {found.error_class})" for found in leads.failing)
        relay = Finding("warn", "relay", f"steps that fail again and again: {steps}; its log says why")
    worker = Finding("ok", "worker", f"{threads} threads")
    if threads == 0:
        worker = Finding("warn", "worker", "no worker is running, so no job makes progress: start `withdrawals worker`")
    return [relay, worker]


def _broker(current: Settings) -> list[Finding]:
    url = current.broker_url.get_secret_value()
    if is_rabbitmq(url):
        broker = open_broker(url)
        broker.ping()
        return [Finding("ok", "broker", "RabbitMQ answers")]
    return _redis(url)


def _redis(url: str) -> list[Finding]:
    client = redis_clients.connect(url, timeout=3)
    info: Any = client.info("server")
    memory: Any = client.info("memory")
    client.close()
    version = str(info["redis_version"])
    old = tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS
    findings = [Finding("wrong" if old else "ok", "broker", f"Redis {version}" + ("; needs 6.2" if old else ""))]
    if memory.get("maxmemory_policy", "noeviction") != "noeviction":
        findings.append(
            Finding(
                "warn",
                "broker",
                "evicts keys when its memory is full, which delays work: set noeviction",
            )
        )
    return findings


def _sources(database: Database, current: Settings) -> list[Finding]:
    with database.begin() as connection:
        live = ledger.list_live(connection)
    findings = [Finding("ok", "sources", f"{len(live)} HR systems may send events")]
    opener = source_seal(current)
    for source, sealed in live:
        if any(opener.open(secret) is None for secret in sealed):
            advice = f"no key opens the secret of source {source.id}: rotate it, or restore the key"
            findings.append(Finding("wrong", "sources", advice))
        if source.previous_until is not None and source.previous_until - datetime.now(UTC) > LONG_ROTATION:
            until = f"{source.previous_until:%Y-%m-%d}"
            advice = f"source {source.id} accepts two secrets until {until}: rotate it again to end the older one"
            findings.append(Finding("warn", "sources", advice))
    return findings


def _sealed(database: Database, current: Settings) -> list[Finding]:
    """Whether older keys are still needed."""
    found = keys.look(database, current)
    findings = []
    if found.unreadable:
        findings.append(Finding("wrong", "sealed", f"no key opens {_list(found.unreadable)}: put their key back"))
    if found.older:
        advice = "keep the older keys, and run `withdrawals keys reseal`"
        findings.append(Finding("warn", "sealed", f"older keys have sealed {_list(found.older)}: {advice}"))
    return findings or [Finding("ok", "sealed", "the first key opens everything; older ones may go after a day")]


def _list(counts: dict[str, int]) -> str:
    return ", ".join(f"{place} ({n})" for place, n in counts.items())


def _secret_key(current: Settings) -> list[Finding]:
    try:
        source_seal(current)
    except SettingsError as error:
        return [Finding("wrong", "secret key", str(error))]
    given = current.secret_key.get_secret_value() if current.secret_key else ""
    keys = [key.strip() for key in given.split(",") if key.strip()]
    if any(len(key) < MIN_KEY_LENGTH or len(set(key)) < MIN_DIFFERENT for key in keys):
        advice = f"a key is not random: put a new one of {MIN_KEY_LENGTH} random characters and a comma before it"
        return [Finding("warn", "secret key", advice)]
    return [Finding("ok", "secret key", f"{len(keys)} set; the first one encrypts")]


def _ask(database: Database, look: Callable[..., list[Finding]], *given: object) -> list[Finding]:
    with database.begin() as connection:
        return look(connection, *given)


def _try(what: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return look()
    except SessionError as error:
        return [Finding("wrong", what, str(error))]
    except Exception as error:
        name, message, _ = describe(error)
        return [Finding("wrong", what, f"{name}: {message}")]
