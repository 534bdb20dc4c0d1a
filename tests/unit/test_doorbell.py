"""Hints: as many as are needed, heard at once; on a Redis that exists in memory alone."""

import importlib.metadata
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import dramatiq
import fakeredis
import pytest
import redis
from dramatiq.brokers.redis import _RedisConsumer
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import Middleware

from tests.world import PATIENCE
from worker.queue import broker as doorbell
from worker.queue.broker import BELLS, DoorbellConsumer, HintBroker, make_broker
from worker.queue.hints import ACTOR, NAMESPACE, QUEUE, hint

LIST = f"{NAMESPACE}:{QUEUE}"
FOR_EVER = 3600.0
"""Longer than any test waits: whatever happens within it was not the end of a wait."""


@pytest.fixture
def broker() -> Iterator[HintBroker]:
    """A broker on a Redis that exists in memory alone."""
    made = make_broker("", client=fakeredis.FakeRedis())
    yield made
    made.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a consumer that is not woken wait longer than the test does."""
    monkeypatch.setattr(doorbell, "_BELL_WAIT", FOR_EVER)


def consumer_of(broker: HintBroker, prefetch: int = 2) -> DoorbellConsumer:
    consumer = broker.consume(QUEUE, prefetch=prefetch, timeout=5000)
    assert isinstance(consumer, DoorbellConsumer)
    return consumer


def in_background(work: Any) -> "Future[Any]":
    """Run in a daemon thread; its result, or that it does not end."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def test_dramatiq_is_the_minor_version_whose_consumer_is_overridden() -> None:
    """`DoorbellConsumer.__next__` replaces that of dramatiq 2.2 and uses its private parts.

    On another minor version: read `_RedisConsumer.__next__` again (the cache, the prefetch, what it raises when
    Redis is away), and `RedisBroker.declare_queue` and `consumer_class`, which `HintBroker` replaces too.
    """
    assert importlib.metadata.version("dramatiq").split(".")[:2] == ["2", "2"]
    parts = vars(_RedisConsumer(None, QUEUE, 1, 1))
    assert parts.keys() >= {"broker", "queue_name", "prefetch", "message_cache", "queued_message_ids"}
    assert isinstance(vars(_RedisConsumer)["outstanding_message_count"], property)


def test_the_list_is_topped_up_to_what_is_wanted_and_no_further(broker: HintBroker) -> None:
    assert [broker.top_up(wanted) for wanted in (3, 3, 5, 2, 0)] == [3, 0, 2, 0, 0]
    assert broker.client.llen(LIST) == 5


def test_hints_that_dead_workers_never_acknowledged_do_not_count(broker: HintBroker) -> None:
    """dramatiq's own size counts them, and would keep a hint from being sent for minutes."""
    broker.top_up(2)
    taken = consumer_of(broker)
    assert [next(taken), next(taken)] != [None, None]
    assert broker.client.llen(LIST) == 0
    assert broker.do_qsize(QUEUE) >= 2
    assert broker.top_up(2) == 2


def test_a_flushed_redis_is_filled_again(broker: HintBroker) -> None:
    broker.top_up(4)
    broker.client.flushall()
    assert broker.top_up(4) == 4
    assert next(consumer_of(broker)).actor_name == ACTOR


def test_the_bell_rings_once_a_hint_and_never_grows_beyond_what_is_wanted(broker: HintBroker) -> None:
    broker.top_up(3)
    assert broker.client.llen(BELLS[QUEUE]) == 3
    for _ in range(10):
        broker.client.delete(LIST)
        broker.top_up(3)
    assert broker.client.llen(BELLS[QUEUE]) == 3
    broker.top_up(3)
    assert broker.client.llen(BELLS[QUEUE]) == 3, "what waits already is not rung for again"


def test_there_is_no_delay_queue(broker: HintBroker) -> None:
    assert broker.queues == set(BELLS)
    assert broker.delay_queues == set()
    declared: list[str] = []

    class Watch(Middleware):
        def after_declare_queue(self, broker: dramatiq.Broker, queue_name: str) -> None:
            declared.append(queue_name)

        def after_declare_delay_queue(self, broker: dramatiq.Broker, queue_name: str) -> None:
            declared.append(queue_name)

    made = make_broker("", [Watch()], client=fakeredis.FakeRedis())
    made.declare_queue(QUEUE)
    assert declared == list(BELLS)


def test_none_of_dramatiqs_own_middleware_is_there_to_retry_or_delay(broker: HintBroker) -> None:
    assert broker.middleware == []


def test_a_hint_carries_nothing_that_could_be_stale() -> None:
    message = hint()
    assert (message.args, message.kwargs, message.options) == ((), {}, {})
    assert message.message_id != hint().message_id


def test_an_idle_consumer_wakes_by_the_bell_with_the_message(
    broker: HintBroker, patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer, waits, wait = consumer_of(broker), threading.Event(), broker.wait_and_fetch

    def noted(queue_name: str, most: int) -> list[bytes]:
        waits.set()
        return wait(queue_name, most)

    monkeypatch.setattr(broker, "wait_and_fetch", noted)
    waiting = in_background(lambda: next(consumer))
    assert waits.wait(PATIENCE)
    assert not waiting.done()
    broker.top_up(1)
    assert waiting.result(PATIENCE).actor_name == ACTOR


@pytest.mark.parametrize(
    "lose",
    [lambda client: client.delete(BELLS[QUEUE]), lambda client: client.script_flush()],
    ids=["another consumer has heard the bell", "Redis was restarted and knows the script no more"],
)
def test_what_came_is_found_at_the_end_of_a_wait(
    broker: HintBroker, monkeypatch: pytest.MonkeyPatch, lose: Callable[[Any], object]
) -> None:
    monkeypatch.setattr(doorbell, "_BELL_WAIT", 0.01)
    consumer = consumer_of(broker)
    assert next(consumer) is None
    broker.top_up(1)
    lose(broker.client)
    assert next(consumer).actor_name == ACTOR


def test_a_consumer_without_room_wakes_when_a_message_is_done(broker: HintBroker, patient: None) -> None:
    class Room(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.release()
            return super().wait(timeout)

    broker.top_up(3)
    consumer, waits = consumer_of(broker, prefetch=2), threading.Semaphore(0)
    consumer._room = Room()
    first, second = next(consumer), next(consumer)
    for finish, message in ((consumer.ack, first), (consumer.nack, second)):
        waiting = in_background(lambda: next(consumer))
        assert waits.acquire(timeout=PATIENCE), "it has seen that it has no room"
        assert not waiting.done()
        finish(message)
        assert waiting.result(PATIENCE) is None
        broker.top_up(1)
        assert next(consumer).actor_name == ACTOR


def test_a_consumer_without_room_takes_nothing_from_the_others(broker: HintBroker, monkeypatch: Any) -> None:
    monkeypatch.setattr(doorbell, "_BELL_WAIT", 0.01)
    broker.top_up(3)
    full, other = consumer_of(broker, prefetch=2), consumer_of(broker, prefetch=2)
    assert None not in (next(full), next(full))
    assert next(full) is None
    assert next(other).actor_name == ACTOR


def test_a_redis_that_is_away_ends_the_consumer_so_that_dramatiq_makes_another(broker: HintBroker) -> None:
    consumer = consumer_of(broker)
    for error in (redis.ConnectionError(), redis.TimeoutError()):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(broker.client, "pipeline", lambda *_, error=error, **__: _raise(error))
            with pytest.raises(ConnectionClosed):
                next(consumer)


def _raise(error: BaseException) -> None:
    raise error
