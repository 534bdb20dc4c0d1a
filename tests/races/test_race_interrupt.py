"""A worker is told to stop while a statement waits, and the server does not take the request to cancel it."""

import psycopg
import pytest
from structlog.testing import capture_logs

from tests.support.racing import Threads, await_waiters, hold_enrolments, job_state
from tests.world import PATIENCE, World
from worker.config import Settings
from worker.database import Database
from worker.queue.drain import Drain


def test_a_statement_that_cannot_be_interrupted_is_finished(
    slow_db: Database,
    owner: Database,
    world: World,
    patient: Settings,
    threads: Threads,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server may be too busy to take the request to cancel: that is logged, and the shutdown goes on."""

    def unheard(*_: object, **__: object) -> None:
        raise psycopg.OperationalError("no connection for the request to cancel")

    monkeypatch.setattr(psycopg.Connection, "cancel_safe", unheard)
    ids = world.enrolments(1)
    job = world.submit(slow_db, ids)
    drain = Drain(slow_db, patient)
    with hold_enrolments(owner, *ids) as hold, capture_logs() as entries:
        working = threads.go(drain.run)
        await_waiters(world)
        drain.stop()
        drain.interrupt()
        hold.release()
        assert working.result(PATIENCE) == 1
    assert "interrupt.failed" in [entry["event"] for entry in entries]
    assert job_state(world, job.id) == "completed"
