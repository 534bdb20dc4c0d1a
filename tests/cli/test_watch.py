"""`jobs watch`: until the job ends, through restarts, with an exit code that says how it ended."""

import os
import pty
import signal
import subprocess
import sys
import threading

import pytest

from ops.cli import watch
from ops.local.servers import LocalServers
from tests.support import processes
from tests.support.commandline import done, withdrawals
from tests.world import PATIENCE, World, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.jobs.control import cancel
from worker.jobs.show import show


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.02)


def test_the_exit_code_says_how_the_job_ended(world: World, db: Database, environment: Settings) -> None:
    clean = world.submit(db, world.enrolments(2))
    with_exceptions = world.submit(db, [world.enrolment("m", "mastered")])
    decide_due(db, environment)
    cancelled = world.submit(db, world.enrolments(1))
    cancel(db, organisation_id=world.organisation_id, job_id=cancelled.id, actor="test:admin")
    world.enrolment("anna")
    superseded = world.event(db, "deactivated", "anna", source="hr").job_id
    world.event(db, "reactivated", "anna", source="hr")
    assert done("jobs", "watch", clean.id)["outcomes"] == {"withdrawn": 2}
    ran = withdrawals("jobs", "watch", with_exceptions.id)
    assert (ran.code, "completed_with_exceptions" in ran.out) == (1, True)
    assert withdrawals("jobs", "watch", cancelled.id).code == 1
    assert withdrawals("jobs", "watch", superseded).code == 0
    ran = withdrawals("jobs", "watch", 999_999)
    assert (ran.code, ran.out) == (1, "")


def test_watch_waits_through_a_restart_of_postgresql(
    world: World, db: Database, environment: Settings, servers: LocalServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = world.submit(db, world.enrolments(2))
    looked = threading.Event()

    def looks(*words: object, **named: object) -> object:
        found = show(*words, **named)  # type: ignore[arg-type]
        looked.set()
        return found

    monkeypatch.setattr(watch, "show", looks)

    def meanwhile() -> None:
        assert looked.wait(PATIENCE)
        processes.restart_postgres(servers, "immediate")
        decide_due(db, environment)

    other = threading.Thread(target=meanwhile)
    other.start()
    found = done("jobs", "watch", job.id)
    other.join()
    assert (found["state"], found["outcomes"]) == ("completed", {"withdrawn": 2})


def test_watch_gives_up_when_postgresql_stays_away(world: World, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    job = world.submit(db, world.enrolments(1))
    monkeypatch.setattr(watch, "GIVE_UP_SECONDS", -1.0)

    def away(*_: object, **__: object) -> None:
        world.run("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(watch, "show", away)
    ran = withdrawals("jobs", "watch", job.id)
    assert (ran.code, ran.out) == (1, "")
    assert "PostgreSQL" in ran.err


def test_on_a_terminal_a_bar_shows_the_state_and_ctrl_c_ends_it(world: World, db: Database) -> None:
    job = world.submit(db, world.enrolments(3))
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    # A run that was started in the background ignores SIGINT, and what it starts would inherit that.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "ops", "jobs", "watch", str(job.id)],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True,
    )  # fmt: skip
    signal.signal(signal.SIGINT, handler)
    os.close(theirs)
    seen = b""

    def shown() -> bool:
        nonlocal seen
        seen += os.read(ours, 4096)
        return b"0/3" in seen and b"queued" in seen

    try:
        eventually(shown)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"Traceback" not in seen
