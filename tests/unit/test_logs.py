"""What the logs tell of an error: where and what, never whose."""

import logging

import pytest
import structlog

from worker import logs
from worker.config import Settings


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_holds_no_values(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, log_format: str
) -> None:
    """uvicorn logs what nobody caught; the frames hold cookies and tokens, the message may quote a row."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    level = root.level
    configured = structlog.get_config()
    cookie = "se" + "cret-of-a-session"
    try:
        logs.configure(Settings().model_copy(update={"log_format": log_format}))
        try:
            raise ValueError(f"nobody may read ({cookie}) of ada@example.org")
        except ValueError as error:
            logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=error)
    finally:
        root.setLevel(level)
        structlog.configure(**configured)
    told = capsys.readouterr().err
    assert "in test_a_traceback_holds_no_values" in told
    assert "ValueError" in told
    assert cookie not in told
    assert "ada@example.org" not in told
