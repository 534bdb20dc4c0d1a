"""What a worker process does around each message, and when the process that started it is gone."""

import os
import signal

import dramatiq
import pytest
import structlog
from dramatiq.brokers.stub import StubBroker
from structlog.testing import capture_logs

from worker.config import settings
from worker.queue.hints import hint
from worker.queue.middleware import Lifecycle, MessageLogs


def test_every_line_of_a_message_has_its_id_and_none_of_the_next_has() -> None:
    broker = StubBroker(middleware=[])
    message = dramatiq.MessageProxy(hint())
    lines = MessageLogs()
    lines.before_process_message(broker, message)
    assert structlog.contextvars.get_contextvars() == {"message_id": message.message_id}
    lines.after_process_message(broker, message)
    assert structlog.contextvars.get_contextvars() == {}


def test_a_worker_whose_parent_is_gone_ends_itself_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second signal would end it in the middle of what it has in hand."""
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append((pid, number)))
    lifecycle = Lifecycle(settings())
    monkeypatch.setattr(lifecycle, "_parent", os.getppid())
    lifecycle._end_with_parent()
    assert signals == []
    monkeypatch.setattr(lifecycle, "_parent", os.getppid() + 1)
    with capture_logs() as logs:
        lifecycle._end_with_parent()
        lifecycle._end_with_parent()
    assert signals == [(os.getpid(), signal.SIGTERM)]
    assert [line["event"] for line in logs] == ["worker.orphaned"]
