"""The relay between its rounds: one hint before anything is counted, and steps that are taken seldom."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from tests.world import PATIENCE, World, eventually
from worker.config import Settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.queue.relay import Relay


def test_a_notification_after_a_lull_wakes_a_worker_before_anything_is_counted(
    db: Database, environment: Settings, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = make_broker(environment.broker_url.get_secret_value())
    relay = Relay(db, broker, environment.model_copy(update={"sweep_seconds": 60.0}))
    monkeypatch.setattr(relay, "publish", lambda: 0)
    monkeypatch.setattr(relay, "sweep", lambda **_: None)
    waits, wait = threading.Event(), relay._wait

    def note(*given: Any) -> bool:
        waits.set()
        return wait(*given)

    monkeypatch.setattr(relay, "_wait", note)
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        eventually(lambda: relay._leadership.leads)
        assert waits.wait(PATIENCE)
        world.submit(db, world.enrolments(1))
        eventually(lambda: broker.client.llen("withdrawals:due") == 1, what="a hint that nobody counted for")
    finally:
        relay.stop()
        db._notifier.notify()
        thread.join()
        broker.client.close()


def test_steps_for_which_nobody_waits_are_not_taken_in_every_round(
    db: Database, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = Relay(db, make_broker(environment.broker_url.get_secret_value()), environment)
    rounds: list[list[str]] = []
    monkeypatch.setattr(relay._leadership, "seek", lambda _: True)
    monkeypatch.setattr(type(relay._leadership), "leads", True)
    monkeypatch.setattr(relay, "_try", lambda step, _: rounds[-1].append(step))
    notified: list[list[str]] = []
    session: Any = SimpleNamespace(notifies=lambda **_: notified.pop() if notified else [])
    for _ in range(2):
        rounds.append([])
        relay._round(session)
    first, second = rounds
    assert set(first) - set(second) == {"daily", "forget", "notices", "sessions", "strip", "seal", "compare", "reports"}
    assert {"take_over", "deactivate", "admit", "close", "finish", "publish"} <= set(second)

    notified[:] = [["again"], ["a request"], []]
    rounds.append([])
    relay._round(session)
    assert rounds[-1][2] == "publish", "a hint for what was notified during the round, before its other steps"
    assert rounds[-1].count("publish") == 2, "one hint a round, and the count at its end"
