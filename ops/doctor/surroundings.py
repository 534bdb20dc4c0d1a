"""What `doctor` says about where the service runs: logins, TLS, clocks, embedded servers, proxies."""

import ipaddress
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sqlalchemy import Connection, text

from ops.doctor.findings import Finding
from ops.local.servers import is_embedded
from worker.config import Settings
from worker.database import driver
from worker.queue.hints import is_rabbitmq
from worker.session_settings import LOGIN

CLOCKS_DIFFER, CLOCKS_WRONG = 2.0, 60.0
"""Seconds by which this machine's clock may differ from the database's: then a warning, and then a fault, because
signatures of HR events are good for 300 seconds."""
_LOCAL = ("localhost", "127.0.0.1", "::1")
_PLAIN = {"redis": "rediss", "redis+sentinel": "rediss+sentinel", "amqp": "amqps", "unix": "unix"}
_ENCRYPTED = ("rediss", "rediss+sentinel", "amqps")
_VERIFIED = ("verify-full", "verify-ca")


def embedded(current: Settings) -> list[Finding]:
    """Which servers are embedded ones."""
    urls = {"PostgreSQL": current.database_url, "Redis": current.broker_url}
    found = [name for name, url in urls.items() if is_embedded(url.get_secret_value())]
    if found:
        advice = "for trying out, developing and testing on one machine, not for production"
        return [Finding("warn", "embedded", f"{' and '.join(found)}: {advice}")]
    return [Finding("ok", "embedded", "none")]


def login(connection: Connection) -> list[Finding]:
    """Whether the service's login has more rights than its role."""
    row = connection.execute(
        text("""SELECT session_user::text AS name, u.rolsuper, u.rolbypassrls, u.rolcreaterole, EXISTS (
            SELECT FROM pg_namespace n WHERE n.nspname IN ('withdrawals', 'lms') AND n.nspowner = u.oid) AS owns
        FROM pg_roles u WHERE u.rolname = session_user""")
    ).one()
    too_much = [
        what
        for what, has in (
            ("is a superuser", row.rolsuper),
            ("may create roles", row.rolcreaterole and not row.rolsuper),
            ("owns a schema", row.owns and not row.rolsuper),
        )
        if has
    ]
    if too_much:
        advice = f"give the service a login of its own, such as {LOGIN}: `withdrawals grants --print` prints the SQL"
        return [Finding("warn", "login", f"{row.name} {' and '.join(too_much)}: {advice}")]
    return [Finding("ok", "login", f"{row.name}, neither superuser nor owner")]


def jit(connection: Connection) -> list[Finding]:
    """A session in which just-in-time compilation is on. Through a pooler alone: else each process turns it off."""
    if connection.scalar(text("SHOW jit")) == "off":
        return []
    name = connection.scalar(text("SELECT quote_ident(session_user)"))
    advice = f"run as a superuser: ALTER ROLE {name} SET jit = off; then let the pooler make new connections"
    return [Finding("warn", "jit", f"just-in-time compilation is on, which makes requests slow: {advice}")]


def database_tls(connection: Connection, parameters: dict[str, Any], variable: str) -> list[Finding]:
    """Whether what goes to PostgreSQL is encrypted, and the server known. `parameters`: those of `variable`."""
    session = driver(connection)
    host = str(session.info.host or "")
    if not host or host.startswith("/"):
        return [Finding("ok", "tls", "PostgreSQL: a socket of this machine")]
    if not session.pgconn.ssl_in_use:
        level = "ok" if host in _LOCAL else "warn"
        advice = "" if level == "ok" else f": set sslmode=verify-full in {variable}"
        return [Finding(level, "tls", f"PostgreSQL on {host}: not encrypted{advice}")]
    if parameters.get("sslmode") not in _VERIFIED:
        advice = f"encrypted, but anybody may pretend to be it: set sslmode=verify-full in {variable}"
        return [Finding("warn", "tls", f"PostgreSQL on {host}: {advice}")]
    return [Finding("ok", "tls", f"PostgreSQL on {host}: encrypted and verified")]


def broker_tls(current: Settings) -> list[Finding]:
    """Likewise for the broker."""
    url = current.broker_url.get_secret_value()
    scheme, _, rest = url.partition("://")
    if scheme not in _ENCRYPTED and scheme not in _PLAIN:
        return []  # it cannot be read, which the broker's own finding says; it may be a password
    name = "RabbitMQ" if is_rabbitmq(url) else "Redis"
    authority, _, query = rest.partition("?")
    parts = authority.partition("/")[0].rpartition("@")[2].split(",")
    names = [urlsplit(f"//{part}").hostname or "" for part in parts]
    if scheme == "unix" or all(found in _LOCAL for found in names):
        return [Finding("ok", "tls", f"{name}: on this machine")]
    hosts = ", ".join(names)
    if scheme in _PLAIN:
        return [Finding("warn", "tls", f"{name} on {hosts}: not encrypted: use {_PLAIN[scheme]}:// in BROKER_URL")]
    if parse_qs(query).get("ssl_cert_reqs", ["required"])[0] != "required":
        return [Finding("warn", "tls", f"{name} on {hosts}: encrypted, but its certificate is not checked")]
    return [Finding("ok", "tls", f"{name} on {hosts}: encrypted and verified")]


def clock(connection: Connection) -> list[Finding]:
    """By how much this machine's clock differs from the database's, beyond what the question itself took."""
    before = time.time()
    theirs = float(connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())")) or 0)
    after = time.time()
    return [judge_clock((before + after) / 2 - theirs, within=(after - before) / 2)]


def judge_clock(ahead: float, *, within: float) -> Finding:
    """`ahead`: seconds that this machine's clock is ahead of the database's, give or take `within`."""
    differs = abs(ahead) - within
    if differs < CLOCKS_DIFFER:
        return Finding("ok", "clock", "agrees with the database's")
    which = "ahead of" if ahead > 0 else "behind"
    advice = f"{abs(ahead):.0f} s {which} the database's: let both machines take the time from the network (NTP)"
    return Finding("wrong" if differs >= CLOCKS_WRONG else "warn", "clock", advice)


def proxies(current: Settings) -> list[Finding]:
    """Whether callers can be told apart and stay with https."""
    findings = []
    everybody = [one for one in current.trusted_proxies.split(",") if one and ipaddress.ip_network(one).prefixlen == 0]
    if everybody:
        advice = "trusts everybody, so that whoever calls may invent an address: name the proxy's own"
        findings.append(Finding("wrong", "proxies", f"WITHDRAWALS_TRUSTED_PROXIES={everybody[0]} {advice}"))
    is_public = current.host not in _LOCAL
    is_https = current.public_url.startswith("https://")
    if is_public and not is_https:
        advice = "put a proxy with TLS before it, and set WITHDRAWALS_PUBLIC_URL to its https address"
        findings.append(Finding("warn", "web", f"listens on {current.host}: {advice}"))
    if is_https and not current.trusted_proxies:
        advice = "behind a proxy, all callers share its address and one limit: set WITHDRAWALS_TRUSTED_PROXIES"
        findings.append(Finding("warn", "proxies", f"none is trusted; {advice}"))
    if not findings:
        named = current.trusted_proxies or "none"
        findings.append(Finding("ok", "proxies", f"trusted: {named}; public address: {current.public_url or 'none'}"))
    return findings
