"""The relay between its rounds and in them: one hint before anything is counted, and only what has to be done."""

import threading
from collections.abc import Callable, Iterator
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


class Rounds:
    """The rounds of a relay that leads, of which only the names of the steps are noted."""

    def __init__(self, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
        self._relay = relay
        self._taken: list[str] = []
        self.notified: list[list[str]] = []
        monkeypatch.setattr(relay._leadership, "seek", lambda _: True)
        monkeypatch.setattr(type(relay._leadership), "leads", True)
        monkeypatch.setattr(relay, "_try", self._note)
        monkeypatch.setattr("worker.queue.relay._LONGEST", float("inf"))  # no step counts as long
        for clock in ("ALL_EVERY", "SELDOM_EVERY"):  # what goes by the clock goes when the test says so
            monkeypatch.setattr(f"worker.queue.round_steps.{clock}", float("inf"))

    def _note(self, step: str, act: Callable[[], Any]) -> Any:
        self._taken.append(step)
        return act() if step == "ask" else None

    def take(self) -> list[str]:
        self._taken.clear()
        session: Any = SimpleNamespace(notifies=lambda **_: self.notified.pop() if self.notified else [])
        self._relay._round(session)
        return list(self._taken)


@pytest.fixture
def relay(db: Database, environment: Settings) -> Iterator[Relay]:
    broker = make_broker(environment.broker_url.get_secret_value())
    yield Relay(db, broker, environment)
    broker.client.close()


def test_a_round_takes_the_steps_that_have_something_to_do_and_now_and_then_all(
    db: Database, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = Rounds(relay, monkeypatch)
    every = list(relay.steps.steps)
    assert rounds.take() == [*every, "publish"], "the first takes all, and publishes what they have made due"
    for step in [*relay.steps.steps.values()] * 3:
        step.take()
    assert rounds.take() == ["ask", "publish"], "the look says what is due, too"

    monkeypatch.setattr(relay.steps, "_next_seldom", 0.0)
    assert rounds.take() == ["ask", "publish", "compare", "publish"], "what nobody waits for is asked about seldom"
    assert rounds.take() == ["ask", "publish"]

    monkeypatch.setattr(relay.steps, "_next_all", 0.0)
    assert rounds.take() == [*every, "publish"]


def test_if_the_look_fails_all_steps_are_taken(db: Database, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError

    relay.steps.take_all()
    monkeypatch.setattr(relay.steps, "look", fail)
    taken = relay._try
    names: list[str] = []

    def note(step: str, act: Callable[[], Any]) -> Any:
        names.append(step)
        return taken(step, act)

    monkeypatch.setattr(relay, "_try", note)
    monkeypatch.setattr("worker.queue.relay._LONGEST", float("inf"))
    relay.sweep(ask=True)
    assert names == ["ask", *relay.steps.steps, "publish"]
    assert list(relay._failures.document()) == ["ask"]


def test_a_request_during_a_round_wakes_a_worker_before_the_next_step(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = Rounds(relay, monkeypatch)
    rounds.notified[:] = [["again"], ["a request"], []]
    taken = rounds.take()
    assert taken[2] == "publish", "a hint for what was notified during the round, before its other steps"
    assert taken.count("publish") == 2, "one hint a round, and the count at its end"
