"""Processes that serve for long look for garbage seldom, and not among what they have loaded."""

import gc
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from worker.config import Settings
from worker.garbage import loading
from worker.queue import middleware
from worker.web import server

_PROGRAM = """
import gc, weakref
from worker.garbage import collect_seldom

class Node: ...

loaded = len(gc.get_objects())
collect_seldom()
assert len(gc.get_objects()) < loaded / 100, "what is loaded is looked through no more"
one = Node()
one.itself, known = one, weakref.ref(one)
del one
for _ in range(2_000):
    kept = [[]]
assert known() is not None, "Python's own threshold is long passed"
cycles = [[Node()] for _ in range(100_000)]
assert known() is None, "a cycle is freed in the end"
"""


def test_garbage_is_found_late_and_not_looked_for_among_what_is_loaded() -> None:
    subprocess.run([sys.executable, "-c", _PROGRAM], check=True, timeout=120)


def test_no_garbage_is_looked_for_while_modules_are_loaded() -> None:
    assert gc.isenabled()
    with loading():
        with loading():
            assert not gc.isenabled()
        assert not gc.isenabled(), "the outer one goes on"
    assert gc.isenabled()
    with loading(), pytest.raises(CalledError), loading():
        raise CalledError
    assert gc.isenabled()


class CalledError(Exception):
    """Ends what a test has called."""


def test_the_web_process_and_the_workers_do_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay: `ops/cli/processes.py`."""
    called = mock.Mock(side_effect=CalledError)
    anything: Any = mock.Mock()
    for module in (server, middleware):
        monkeypatch.setattr(module, "collect_seldom", called)
    for name in ("Server", "Heartbeat"):
        monkeypatch.setattr(server, name, anything)
    for name in ("logs", "telemetry", "Database", "Drain", "Deliverer", "Sender", "Lookups"):
        monkeypatch.setattr(middleware, name, anything)
    monkeypatch.setattr(threading, "Semaphore", anything)
    with pytest.raises(CalledError):
        server.serve(SimpleNamespace(state=SimpleNamespace(services=anything)), mock.Mock(spec=Settings))  # type: ignore[arg-type]
    with pytest.raises(CalledError):
        middleware.Lifecycle(mock.Mock(threads=1)).after_process_boot(anything)
