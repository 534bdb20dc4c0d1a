"""The rare ends of leading: no database, another leader, a session that fails, an error that does not pass."""

import time
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from tests.world import World
from worker.config import Settings
from worker.database import Database
from worker.ledger import person_events
from worker.queue import leadership
from worker.queue.broker import make_broker
from worker.queue.leadership import Leadership, StepFailures
from worker.queue.relay import Relay


def leading(db: Database, settings: Settings) -> Leadership:
    found = Leadership(db, uuid4(), settings, StepFailures())
    found._leads, found._progress = True, time.monotonic()
    return found


def test_a_leader_without_a_database_logs_what_it_could_not_record(environment: Settings) -> None:
    nowhere = Database(environment.model_copy(update={"database_url": SecretStr("postgresql://x@127.0.0.1:1/none")}))
    leader = leading(nowhere, environment)
    with capture_logs() as logs:
        leader.beat()
        leader.resign()
    assert [line["event"] for line in logs] == ["relay.heartbeat_failed", "relay.not_resigned"]
    nowhere.close()


def test_a_leader_that_finds_another_on_record_leads_no_more(db: Database, world: World, environment: Settings) -> None:
    leader = leading(db, environment)
    world.relay_leads()
    with capture_logs() as logs:
        leader.beat()
    assert [line["event"] for line in logs] == ["relay.replaced"]
    assert not leader.leads


def test_an_answer_that_comes_late_says_nothing_of_now(
    db: Database, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay that was stopped between the question and the answer may have been replaced meanwhile."""
    leader, now = leading(db, environment), time.monotonic()
    clock = iter([now, now])  # how long it was silent, and when it asked
    monkeypatch.setattr(leadership, "time", SimpleNamespace(monotonic=lambda: next(clock, now + 3600)))
    monkeypatch.setattr("worker.ledger.leader.confirm", lambda *_: True)
    leader.beat()
    assert not leader.leads


def test_a_session_that_cannot_be_set_up_is_closed(environment: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        closed = False
        info = SimpleNamespace(encoding="utf-8")

        def cursor(self, **_: object) -> None:
            raise psycopg.OperationalError

        def close(self) -> None:
            self.closed = True

    session = Session()
    with monkeypatch.context() as patched, pytest.raises(psycopg.OperationalError):
        patched.setattr(psycopg, "connect", lambda *_, **__: session)
        leadership.open_session(environment)
    assert session.closed


def test_an_error_that_does_not_pass_ends_the_relay(
    db: Database, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor starts it again, and somebody reads why."""

    def fail(*_: Any) -> None:
        raise psycopg.errors.UndefinedTable

    broker = make_broker(environment.broker_url.get_secret_value())
    relay = Relay(db, broker, environment)
    monkeypatch.setattr(relay, "_serve", fail)
    with pytest.raises(psycopg.errors.UndefinedTable):
        relay.run()
    relay._heartbeat.stop()
    broker.client.close()


def test_a_deactivation_whose_person_is_not_on_record_is_not_superseded(db: Database, world: World) -> None:
    world.event(db, "deactivated", "anna")
    world.run("DELETE FROM withdrawals.person_events")
    world.run("DELETE FROM withdrawals.persons")
    chunk_id = world.one("SELECT id FROM withdrawals.chunks")
    with db.begin() as connection:
        assert person_events.find_newer(connection, [chunk_id]).superseded == set()
