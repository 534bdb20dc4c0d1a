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


@pytest.mark.parametrize(
    "said",
    [
        {"job_id": 12, "source": "bulk", "empty": "", "note": "two words", "ids": [1, 2], "nothing": None, "eq": "a=b"},
        {"zone": 'say "so"', "line": "one\ntwo", "tab": "a\tb", "apostrophe": "it's", "text": "ä"},
        {},
        {"exception": "  file.py:1 in f\nValueError: no (abc)", "job_id": 1},
        {"stack": "Stack (most recent call last):", "job_id": 1},
    ],
)
def test_a_plain_line_is_what_structlog_writes(said: dict[str, object]) -> None:
    for event in ("job.accepted", "an event that is longer than the column of events"):
        line = {
            "timestamp": "2026-01-01T00:00:00Z",
            "level": "warning",
            "logger": "worker.jobs",
            "event": event,
            **said,
        }
        plain = structlog.dev.ConsoleRenderer(colors=False)
        assert logs.render_plain(None, "", {**line}) == plain(None, "", {**line})
