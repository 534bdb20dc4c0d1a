"""Unexpected errors to Sentry, or to what speaks its protocol, by a DSN. Off by default.

The event is built here from what the log has too: class, description, fingerprint, where it was raised, the request
id. The library's own integrations are off: they would send variables, requests, headers and messages, and so personal
data and secrets.
"""

import traceback
from typing import Any

from worker.config import Settings
from worker.errors import SettingsError
from worker.faults import describe
from worker.telemetry import request

_client: Any = None


def start(settings: Settings, process: str, *, transport: Any = None) -> None:
    """Report errors of this process if the settings have a DSN. `transport`: in place of HTTP (tests).

    Raises:
        SettingsError: a DSN is set and the package is not installed, or the DSN cannot be read.
    """
    global _client  # noqa: PLW0603 - one for the process
    if settings.sentry_dsn is None:
        return
    try:
        import sentry_sdk  # noqa: PLC0415 - optional
        from sentry_sdk.utils import BadDsn  # noqa: PLC0415 - optional
    except ImportError:
        raise SettingsError(
            "WITHDRAWALS_SENTRY_DSN: needs one more package: pip install 'withdrawals[sentry]'"
        ) from None
    try:
        _client = sentry_sdk.Client(
            dsn=settings.sentry_dsn.get_secret_value(),
            transport=transport,
            default_integrations=False,
            auto_enabling_integrations=False,
            include_local_variables=False,
            server_name=f"withdrawals-{process}",
            max_breadcrumbs=0,
            send_client_reports=False,
        )
    except BadDsn:  # its message would quote the key
        raise SettingsError("WITHDRAWALS_SENTRY_DSN: cannot be read; it looks like https://KEY@host/1") from None


def stop() -> None:
    """Send what is still to be sent, for two seconds at most."""
    global _client  # noqa: PLW0603 - one for the process
    if _client is not None:
        _client.close(timeout=2.0)
        _client = None


def report(error: BaseException, what: str, **ids: Any) -> None:
    """Report an unexpected error. `what`: the event's name in the log. `ids`: of rows; no names."""
    if _client is None:
        return
    name, message, fingerprint = describe(error)
    frames = [
        {"filename": frame.filename, "function": frame.name, "lineno": frame.lineno}
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    tags = {key: str(value) for key, value in ids.items() if value is not None}
    if (request_id := request.current()) is not None:
        tags["request_id"] = request_id
    _client.capture_event(
        {
            "level": "error",
            "logger": what,
            "fingerprint": [fingerprint],
            "tags": tags,
            "exception": {"values": [{"type": name, "value": message, "stacktrace": {"frames": frames}}]},
        }
    )
