"""What `doctor` says about settings that are right one by one, and still not what anybody wants to run with."""

import importlib.util
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import httpx2
from sqlalchemy import Connection, text

from ops.doctor.findings import Finding
from worker.config import Settings
from worker.database import MORE

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_EXPORTER = "opentelemetry.exporter.otlp.proto.http"
_SHORT_LEASE = 10.0
"""Seconds below which a busy machine may lose its claims, though it is well."""
_NEVER = 10**9
"""Learners: an organisation has fewer."""
_PROBE_SECONDS = 2.0


def examine(current: Settings) -> list[Finding]:
    """Look at telemetry, ports, limits, times and the brake. Each finding names the variable and what to do."""
    found = [*_traces(current), *_sentry(current), *_ports(current), *_limits(current), *_times(current)]
    return found or [Finding("ok", "settings", "nothing to say about them")]


def connections(connection: Connection, current: Settings) -> list[Finding]:
    """Whether PostgreSQL has room for what one web and one worker of these settings open."""
    row = connection.execute(
        text("""SELECT current_setting('max_connections')::int AS most,
        current_setting('superuser_reserved_connections')::int AS reserved""")
    ).one()
    pools = (current.web_connections, current.door_connections, current.report_connections)
    web = current.web_processes * sum(size + MORE for size in pools)
    worker = current.processes * (current.threads + MORE)
    needed, room = web + worker, row.most - row.reserved
    if needed <= room:
        return [Finding("ok", "connections", f"one web and one worker open up to {needed}; PostgreSQL has {room}")]
    advice = (
        f"one web and one worker open up to {needed}, PostgreSQL has {room}: lower WITHDRAWALS_WEB_CONNECTIONS, "
        "WITHDRAWALS_WEB_PROCESSES or WITHDRAWALS_THREADS, raise max_connections, or use a pooler"
    )
    return [Finding("warn", "connections", advice)]


def _traces(current: Settings) -> Iterator[Finding]:
    endpoint = next(((name, os.environ[name]) for name in _ENDPOINTS if os.environ.get(name)), None)
    if not current.traces:
        if endpoint:
            advice = f"{endpoint[0]} is set, but no trace is sent: set WITHDRAWALS_TRACES=1, or remove it"
            yield Finding("warn", "traces", advice)
        return
    if not _is_installed(_EXPORTER):
        advice = "WITHDRAWALS_TRACES is on, but its packages are missing: pip install 'withdrawals[traces]'"
        yield Finding("wrong", "traces", advice)
    if endpoint is None:
        advice = "no address is set, so they go to http://localhost:4318: set OTEL_EXPORTER_OTLP_ENDPOINT"
        yield Finding("warn", "traces", advice)
    elif urlsplit(endpoint[1]).scheme not in ("http", "https"):
        yield Finding("wrong", "traces", f"{endpoint[0]} must begin with http:// or https://")
    protocol = next(((name, os.environ[name]) for name in _PROTOCOLS if os.environ.get(name)), None)
    if protocol and protocol[1] != "http/protobuf":
        advice = f"{protocol[0]} is {protocol[1]}, and http/protobuf is what is sent: name the port for that (4318)"
        yield Finding("warn", "traces", advice)
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield Finding("warn", "traces", "OTEL_SDK_DISABLED is set, so none is sent: remove it")


def _sentry(current: Settings) -> Iterator[Finding]:
    if current.sentry_dsn is None:
        return
    if not _is_installed("sentry_sdk"):
        advice = "WITHDRAWALS_SENTRY_DSN is set, but its package is missing: pip install 'withdrawals[sentry]'"
        yield Finding("wrong", "sentry", advice)
    try:
        parts = urlsplit(current.sentry_dsn.get_secret_value())
        is_dsn = bool(parts.scheme in ("http", "https") and parts.username and parts.hostname)
        is_dsn = is_dsn and parts.path.rpartition("/")[2].isdigit()
    except ValueError:
        is_dsn, parts = False, urlsplit("")
    if not is_dsn:  # without quoting it: it holds a key
        advice = "WITHDRAWALS_SENTRY_DSN cannot be read: copy it from the project's settings, like https://KEY@host/1"
        yield Finding("wrong", "sentry", advice)
    elif parts.scheme == "http":
        yield Finding("warn", "sentry", "WITHDRAWALS_SENTRY_DSN: reports go out unencrypted: use https://")


def _ports(current: Settings) -> Iterator[Finding]:
    if current.health_port is not None and current.health_port == current.port != 0:
        advice = f"WITHDRAWALS_HEALTH_PORT and WITHDRAWALS_PORT are both {current.port}: choose another for one of them"
        yield Finding("wrong", "health", advice)
        return
    for what, variable, port in (
        ("web", "WITHDRAWALS_PORT", current.port),
        ("health", "WITHDRAWALS_HEALTH_PORT", current.health_port),
    ):
        if port and _is_taken(current.host, port) and not _is_ours(current.host, port):
            advice = f"{variable}: another program listens on {current.host}:{port}: choose another port, or stop it"
            yield Finding("wrong", what, advice)


def _is_taken(host: str, port: int) -> bool:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError:
        return True
    return False


def _is_ours(host: str, port: int) -> bool:
    """Whether what listens there answers as a process of this service does."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - not bound
    with suppress(httpx2.HTTPError, ValueError):
        answer = httpx2.get(f"http://{reachable}:{port}/metrics", timeout=_PROBE_SECONDS)
        return "withdrawals_" in answer.text
    return False


def _limits(current: Settings) -> Iterator[Finding]:
    if current.refusal_limit == 0:
        advice = "WITHDRAWALS_REFUSAL_LIMIT is 0, so that anybody may guess tokens for ever: unset it"
        yield Finding("warn", "limits", advice)
    if current.webhooks_allow_private:
        advice = (
            "WITHDRAWALS_WEBHOOKS_ALLOW_PRIVATE is on, so that a webhook reaches what only this machine may: unset it"
        )
        yield Finding("warn", "webhooks", advice)
    if current.mail_url is not None and not current.public_url:
        advice = "WITHDRAWALS_MAIL_URL is set and WITHDRAWALS_PUBLIC_URL is not, so links in mails lead nowhere: set it"
        yield Finding("warn", "notifications", advice)
    if current.brake_share >= 1 or current.brake_floor >= _NEVER:
        name = "WITHDRAWALS_BRAKE_SHARE" if current.brake_share >= 1 else "WITHDRAWALS_BRAKE_FLOOR"
        yield Finding("warn", "brake", f"{name} is so high that the brake never holds a job: lower it, or unset it")


def _times(current: Settings) -> Iterator[Finding]:
    if current.lease_seconds < _SHORT_LEASE:
        advice = (
            f"WITHDRAWALS_LEASE_SECONDS is below {_SHORT_LEASE:.0f}, and timeouts are shorter still: "
            "a busy database looks like a dead worker. Raise it"
        )
        yield Finding("warn", "lease", advice)
    if current.backoff_seconds > current.backoff_max_seconds:
        advice = (
            "WITHDRAWALS_BACKOFF_SECONDS is above WITHDRAWALS_BACKOFF_MAX_SECONDS, so that waits never grow: lower it"
        )
        yield Finding("warn", "backoff", advice)
    if current.job_keep_days is not None and current.job_keep_days < current.event_keep_days:
        advice = (
            "WITHDRAWALS_JOB_KEEP_DAYS is below WITHDRAWALS_EVENT_KEEP_DAYS: events of the feed whose job was pruned "
            "answer 410. Keep jobs at least as long as events"
        )
        yield Finding("warn", "retention", advice)
    if current.log_level == "debug":
        yield Finding("warn", "logs", "WITHDRAWALS_LOG_LEVEL is debug, which is not for production: unset it")


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
