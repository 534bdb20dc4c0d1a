"""Every process tells how it is and what it counted, however many there are, and a dead one is soon seen."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.scraping import ask, free_port, parse, value
from tests.world import PATIENCE, World, eventually
from worker.config import Settings
from worker.database import Database
from worker.ledger import processes as ledger_processes

WEB = [sys.executable, "-m", "ops", "web"]
WORKER = [sys.executable, "-m", "ops", "worker", "--processes", "2", "--threads", "1"]


def status(port: int, path: str) -> int | None:
    answer = ask(port, path)
    return None if answer is None else answer.status_code


@pytest.mark.long
def test_a_worker_tells_how_its_processes_are_and_what_they_counted_together(
    environment: Settings, world: World, db: Database, port: int
) -> None:
    """Small: the health of a worker below, and the sums over the files of several processes in test_shared.py."""
    health = {"WITHDRAWALS_HEALTH_PORT": str(port)}
    relay = {"WITHDRAWALS_HEALTH_PORT": str(free_port())}
    with processes.process(WORKER, health), processes.process(processes.RELAY, relay):
        eventually(lambda: status(port, "/readyz") == 200, what="both processes beat")
        eventually(lambda: status(int(relay["WITHDRAWALS_HEALTH_PORT"]), "/readyz") == 200)
        for _ in range(6):
            world.submit(db, world.enrolments(100))
        eventually(lambda: world.one("SELECT count(*) FROM withdrawals.outcomes") == 600)

        def counted() -> bool:
            answer = ask(port, "/metrics")
            assert answer is not None
            found = parse(answer.text)
            assert value(found, "withdrawals_outcomes_total", outcome="withdrawn") <= 600
            waited = value(found, "withdrawals_withdrawn_seconds_count", lane="bulk")
            return value(found, "withdrawals_outcomes_total", outcome="withdrawn") == 600 and waited >= 6

        eventually(counted, what="the sums over both processes")
        answer = ask(int(relay["WITHDRAWALS_HEALTH_PORT"]), "/metrics")
        assert answer is not None
        assert value(parse(answer.text), "withdrawals_relay_leads", kind="relay") == 1
        assert value(parse(answer.text), "withdrawals_relay_hints_total", queue="due") >= 1
        assert status(port, "/healthz") == 200
        assert status(port, "/anything") == 404


def test_web_processes_share_a_port_answer_for_each_other_and_are_replaced(environment: Settings, world: World) -> None:
    port = free_port()

    def alive() -> set[str]:
        return {str(row[0]) for row in world.run("SELECT id FROM withdrawals.processes WHERE kind = 'web'")}

    def counted() -> float:
        answer = ask(port, "/metrics")
        assert answer is not None
        name = "withdrawals_http_requests_total"
        return value(parse(answer.text), name, method="GET", route="/healthz", status="200")

    with processes.process(WEB, {"WITHDRAWALS_WEB_PROCESSES": "2", "WITHDRAWALS_PORT": str(port)}) as parent:
        first = eventually(lambda: alive() if len(alive()) == 2 else None)
        eventually(lambda: status(port, "/healthz") == 200)
        for _ in range(12):  # each a connection of its own, taken by either process
            assert status(port, "/healthz") == 200
        eventually(lambda: counted() == 13, what="all are counted: a request is when it has been answered")
        child = processes.family(parent.pid)[1]
        os.kill(child, signal.SIGKILL)
        eventually(lambda: alive() - first, what="another one was started")
        assert status(port, "/healthz") == 200
        assert counted() >= 13, "what a dead process counted is not lost"
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(PATIENCE) == 0
        assert len(alive()) == 1, "those that ended in order have signed off; the one that was killed could not"
        assert ask(port, "/healthz") is None


def test_a_health_port_that_is_taken_is_named(environment: Settings, tmp_path: Path, port: int) -> None:
    import socket

    with socket.socket() as taken, (tmp_path / "log").open("wb") as log:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with processes.process(processes.RELAY, {"WITHDRAWALS_HEALTH_PORT": str(port)}, log=log) as relay:
            assert relay.wait(PATIENCE) == 2
    assert "WITHDRAWALS_HEALTH_PORT" in (tmp_path / "log").read_text(encoding="utf-8")


def test_a_worker_lives_on_without_its_database_signs_off_at_its_end_and_is_lost_when_killed(
    environment: Settings, world: World, port: int
) -> None:
    health = {"WITHDRAWALS_HEALTH_PORT": str(port)}
    with processes.process(processes.WORKER, health) as worker:
        eventually(lambda: status(port, "/readyz") == 200)
        # The heartbeat finds no table to write to. A probe that killed workers while PostgreSQL is away would make its
        # return harder.
        world.run("ALTER TABLE withdrawals.processes RENAME TO elsewhere")
        eventually(lambda: status(port, "/readyz") == 503)
        assert status(port, "/healthz") == 200
        world.run("ALTER TABLE withdrawals.elsewhere RENAME TO processes")
        eventually(lambda: status(port, "/readyz") == 200)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE) == 0
    assert world.one("SELECT count(*) FROM withdrawals.processes") == 0, "what ends in order is not lost"

    with processes.process(processes.WORKER) as worker:
        eventually(lambda: world.one("SELECT count(*) FROM withdrawals.processes WHERE kind = 'worker'") == 1)
        for pid in processes.family(worker.pid):
            processes.kill(pid)

    def states() -> dict[str, int]:
        with world.owner.begin() as connection:
            return ledger_processes.count_by_state(connection).get("worker", {})

    # Its row falls silent for two heartbeats; 15 s later it also counts no more for the relay.
    eventually(lambda: states() == {"running": 0, "lost": 1})
    silent = world.one("SELECT extract(epoch FROM now() - max(seen_at)) FROM withdrawals.processes")
    assert silent >= ledger_processes.LATE.total_seconds()
    world.run("UPDATE withdrawals.processes SET seen_at = now() - interval '11 minutes'")
    assert states() == {}, "it is not told for ever"
