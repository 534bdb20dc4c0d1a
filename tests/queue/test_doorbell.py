"""Hints: as many as are needed, heard at once, and nothing in Redis that could be lost."""

import importlib.metadata
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import dramatiq
import fakeredis
import pytest
import redis
from dramatiq.brokers.redis import _RedisConsumer
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import Middleware

from tests.world import World, eventually
from worker.config import Settings
from worker.ledger import processes
from worker.queue import broker as doorbell
from worker.queue.broker import ACTOR, BELL, BELLS, QUEUE, DoorbellConsumer, HintBroker, make_broker
from worker.queue.middleware import Lifecycle

LIST = f"{doorbell.NAMESPACE}:{QUEUE}"
FOR_EVER = 60.0
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
    assert broker.client.llen(BELL) == 3
    for _ in range(10):
        broker.client.delete(LIST)
        broker.top_up(3)
    assert broker.client.llen(BELL) == 3
    broker.top_up(3)
    assert broker.client.llen(BELL) == 3, "what waits already is not rung for again"


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
    message = doorbell.hint()
    assert (message.args, message.kwargs, message.options) == ((), {}, {})
    assert message.message_id != doorbell.hint().message_id


def test_an_idle_consumer_wakes_by_the_bell(broker: HintBroker, patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = consumer_of(broker)
    waits, real = threading.Event(), broker.client.blpop

    def blpop(*args: Any, **kwargs: Any) -> Any:
        waits.set()
        return real(*args, **kwargs)

    monkeypatch.setattr(broker.client, "blpop", blpop)
    waiting = in_background(lambda: next(consumer))
    assert waits.wait(10)
    assert not waiting.done()
    broker.top_up(1)
    assert waiting.result(10) is None, "woken, it looks again"
    assert next(consumer).actor_name == ACTOR


def test_a_consumer_without_room_wakes_when_a_message_is_done(broker: HintBroker, patient: None) -> None:
    broker.top_up(3)
    consumer = consumer_of(broker, prefetch=2)
    first, second = next(consumer), next(consumer)
    for finish, message in ((consumer.ack, first), (consumer.nack, second)):
        waiting = in_background(lambda: next(consumer))
        assert not waiting.done()
        finish(message)
        assert waiting.result(10) is None
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
            patched.setattr(broker.client, "blpop", lambda *_, error=error, **__: _raise(error))
            with pytest.raises(ConnectionClosed):
                next(consumer)


def _raise(error: BaseException) -> None:
    raise error


@pytest.fixture
def real(environment: Settings) -> Iterator[HintBroker]:
    """A broker on the Redis of this test run, with no limit to how long a read may block."""
    client = redis.Redis.from_url(environment.broker_url.get_secret_value())
    made = make_broker("", client=client)
    yield made
    made.close()
    client.close()


def blocked(client: redis.Redis) -> list[str]:
    """The commands in which clients of this server are blocked."""
    found: Any = client.client_list()
    return [entry["cmd"] for entry in found if "b" in entry["flags"]]


def test_idle_workers_wait_in_redis_and_not_asleep_so_a_message_reaches_them_at_once(
    real: HintBroker, patient: None
) -> None:
    """With a wait without end, only the bell can be what wakes them; dramatiq's own would be asleep by now."""
    done = threading.Semaphore(0)
    real.declare_actor(dramatiq.Actor(done.release, broker=real, actor_name=ACTOR, queue_name=QUEUE, priority=0,
                                      options={}))  # fmt: skip
    worker = dramatiq.Worker(real, worker_threads=1)
    worker.start()
    try:
        for _ in range(3):
            eventually(
                lambda: blocked(real.client) == ["blpop"] * len(BELLS), what="the consumers are blocked in BLPOP"
            )
            real.top_up(1)
            assert done.acquire(timeout=10)
            eventually(lambda: real.do_qsize(QUEUE) == 0, what="acknowledged")
    finally:
        ThreadPoolExecutor(1).submit(_ring_until_ended, real, worker)
        worker.stop()


def _ring_until_ended(broker: HintBroker, worker: dramatiq.Worker) -> None:
    # The consumer's wait has no end here, so somebody has to wake it for the shutdown.
    deadline = time.monotonic() + 20
    while any(thread.is_alive() for thread in worker.consumers.values()) and time.monotonic() < deadline:
        broker.client.lpush(BELL, b"1")
        threading.Event().wait(0.02)


def test_a_worker_that_idles_asks_redis_about_once_a_second(real: HintBroker) -> None:
    """The wait is bounded, so that a shutdown never waits long for an idle consumer."""
    assert 0 < doorbell._BELL_WAIT <= 2


def test_a_process_is_on_record_while_it_lives_and_gone_when_it_ends(
    world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.queue.middleware.logs.configure", lambda _: None)
    broker = make_broker("", [lifecycle := Lifecycle(environment)], client=fakeredis.FakeRedis())
    broker.emit_after("process_boot")
    worker = dramatiq.Worker(broker, worker_threads=3)
    worker.start()
    try:
        rows = eventually(lambda: world.run("SELECT kind, threads FROM withdrawals.processes"))
        assert [tuple(row) for row in rows] == [("worker", 3)]
        with world.owner.begin() as connection:
            assert processes.worker_threads(connection) == 3
    finally:
        worker.stop()
    assert not world.run("SELECT 1 FROM withdrawals.processes")
    assert lifecycle.drain.run() == 0, "after the shutdown nothing is claimed"


def test_a_process_goes_on_beating_after_the_database_was_away(
    world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.queue.middleware.logs.configure", lambda _: None)
    monkeypatch.setattr("worker.queue.heartbeat.EVERY", 0.02)
    broker = make_broker("", [Lifecycle(environment)], client=fakeredis.FakeRedis())
    broker.emit_after("process_boot")
    worker = dramatiq.Worker(broker, worker_threads=1)
    worker.start()
    try:
        eventually(lambda: world.run("SELECT 1 FROM withdrawals.processes"))
        world.run("ALTER TABLE withdrawals.processes RENAME TO elsewhere")
        world.run("DELETE FROM withdrawals.elsewhere")
        world.run("""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()""")
        world.run("ALTER TABLE withdrawals.elsewhere RENAME TO processes")
        eventually(lambda: world.run("SELECT 1 FROM withdrawals.processes"))
    finally:
        worker.stop()
