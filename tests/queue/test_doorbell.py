"""Hints over a real Redis, and worker processes on record while they live."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dramatiq
import fakeredis
import pytest
import redis

from tests.world import PATIENCE, World, eventually
from worker.config import Settings
from worker.ledger import processes
from worker.queue import broker as doorbell
from worker.queue.broker import BELLS, HintBroker, make_broker
from worker.queue.hints import ACTOR, QUEUE
from worker.queue.middleware import Lifecycle


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a consumer that is not woken wait longer than the test does."""
    monkeypatch.setattr(doorbell, "_BELL_WAIT", 3600.0)


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


def test_idle_workers_wait_in_redis_so_that_a_message_reaches_them_at_once(real: HintBroker, patient: None) -> None:
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
            assert done.acquire(timeout=PATIENCE)
            eventually(lambda: real.do_qsize(QUEUE) == 0, what="acknowledged")
    finally:
        ThreadPoolExecutor(1).submit(_ring_until_ended, real, worker)
        worker.stop()


def _ring_until_ended(broker: HintBroker, worker: dramatiq.Worker) -> None:
    # The consumer's wait has no end here, so somebody has to wake it for the shutdown.
    deadline = time.monotonic() + PATIENCE
    while any(thread.is_alive() for thread in worker.consumers.values()) and time.monotonic() < deadline:
        for bell in BELLS.values():
            broker.client.lpush(bell, b"1")
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
