"""Reports of unexpected errors: off by default, and without personal data."""

from typing import Any

import pytest
from sentry_sdk.transport import Transport
from structlog.testing import capture_logs

from worker.config import Settings
from worker.errors import SettingsError
from worker.telemetry import error_reports, request

DSN = "https://0123456789abcdef@errors.invalid/1"


class Kept(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []

    def capture_envelope(self, envelope: Any) -> None:
        found = envelope.get_event()
        if found is not None:
            self.events.append(found)


def with_dsn(dsn: str) -> Settings:
    from pydantic import SecretStr

    return Settings().model_copy(update={"sentry_dsn": SecretStr(dsn)})


def raised() -> ValueError:
    whose = "ada@example.org"
    try:
        raise ValueError(f"Key (email)=({whose}) already exists for 'Ada', number 4711")
    except ValueError as error:
        return error


def test_a_report_tells_where_and_what_and_never_whose() -> None:
    kept = Kept()
    error_reports.start(with_dsn(DSN), "worker", transport=kept)
    token = request.REQUEST_ID.set("abc")
    try:
        error_reports.report(raised(), "attempt.failed", chunk_ids=[7])
    finally:
        request.REQUEST_ID.reset(token)
        error_reports.stop()
    (event,) = kept.events
    (found,) = event["exception"]["values"]
    assert found["type"] == "ValueError"
    assert found["value"] == "Key …… already exists for …, number N"
    assert found["stacktrace"]["frames"][-1]["function"] == "raised"
    assert event["tags"] == {"chunk_ids": "[7]", "request_id": "abc"}
    for secret in ("ada@example.org", "Ada", "4711"):
        assert secret not in str(event)
    assert not {"user", "request", "breadcrumbs"} & {name for name, value in event.items() if value}
    assert "vars" not in found["stacktrace"]["frames"][-1]


def test_nothing_is_reported_without_a_dsn() -> None:
    error_reports.start(Settings(), "web")
    with capture_logs() as logs:
        error_reports.report(raised(), "web.failed")
    assert error_reports._client is None
    assert logs == []


def test_a_dsn_that_cannot_be_read_is_an_error_that_does_not_quote_it() -> None:
    with pytest.raises(SettingsError, match="WITHDRAWALS_SENTRY_DSN") as refused:
        error_reports.start(with_dsn("secret-and-wrong"), "web")
    assert "secret-and-wrong" not in str(refused.value)
