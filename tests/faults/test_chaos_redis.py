"""Redis carries hints that PostgreSQL can produce again: whatever happens to it costs time, and nothing else."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import dramatiq
import pytest
import redis

from ops.local.servers import LocalServers
from tests.support import processes
from tests.support.chaos import Chaos, administrator, left_running, seconds_pass
from tests.support.load import KILLS, Load, service
from tests.world import eventually
from worker.config import Settings
from worker.queue.broker import make_broker
from worker.queue.hints import NAMESPACE, QUEUE

pytestmark = pytest.mark.timeout(900)

FEW = max(KILLS // 4, 1)
FOR = 8
"""Seconds of a fault: clients of Redis wait for 5."""


@pytest.mark.scenario("redis-killed", small=True)
def test_redis_flushed_and_killed_in_the_middle_loses_nothing(load: Load, servers: LocalServers, chaos: Chaos) -> None:
    with left_running(servers), service():
        with load.submitted_meanwhile():
            for _ in load.moments(KILLS):
                processes.flush_redis(servers)
            processes.kill_redis(servers)
        load.submit("while Redis is away", load.ids[::3])
        processes.start_redis(servers)
        chaos.conclude(load.verdict())


@pytest.mark.scenario("redis-frozen")
def test_redis_that_answers_nobody_for_longer_than_its_clients_wait_loses_nothing(
    load: Load, servers: LocalServers, environment: Settings, chaos: Chaos
) -> None:
    pid = servers.redis.pid()
    assert pid
    with administrator(environment) as admin, service():
        with load.submitted_meanwhile():
            for number in load.moments(FEW):
                with frozen(pid):
                    # Requests are accepted meanwhile; what is decided is up to the workers that have a hint.
                    load.submit(f"while Redis is frozen {number}", load.ids[number::7])
                    seconds_pass(admin, FOR)
        chaos.conclude(load.verdict())


@pytest.mark.scenario("redis-full")
def test_redis_without_memory_loses_nothing(
    load: Load, servers: LocalServers, environment: Settings, chaos: Chaos
) -> None:
    with administrator(environment) as admin, redis.Redis.from_url(servers.broker_url) as client, service():
        try:
            with load.submitted_meanwhile():
                for number in load.moments(FEW):
                    client.config_set("maxmemory", "1")
                    load.submit(f"while Redis is full {number}", load.ids[number::7])
                    seconds_pass(admin, FOR)
                    client.config_set("maxmemory", "0")
        finally:
            client.config_set("maxmemory", "0")
        chaos.conclude(load.verdict())


@pytest.mark.scenario("redis-garbage")
def test_garbage_in_the_queue_stops_no_worker(load: Load, servers: LocalServers, chaos: Chaos) -> None:
    with redis.Redis.from_url(servers.broker_url) as client, service() as running:
        with load.submitted_meanwhile():
            for _ in load.moments(KILLS):
                for garbage in _garbage():
                    _enqueue(client, garbage)
                client.lpush(f"{NAMESPACE}:{QUEUE}", str(uuid4()))  # an id without a body
        before = [running.pid("worker-a"), running.pid("worker-b")]
        chaos.conclude(load.verdict())
        assert [running.pid("worker-a"), running.pid("worker-b")] == before
        eventually(lambda: client.llen(f"{NAMESPACE}:{QUEUE}") == 0, what="the garbage taken out of the queue")


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process (SIGSTOP) for a block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _garbage() -> list[bytes]:
    unknown: Any = dramatiq.Message(QUEUE, "no.such.actor", (), {}, {})
    wrong: Any = dramatiq.Message(QUEUE, "chunks.drain", (1, 2), {"unknown": True}, {})
    delayed: Any = dramatiq.Message(QUEUE, "chunks.drain", (), {}, {"eta": "tomorrow"})
    return [b"\xff\x00 no JSON", b"[]", b"{}", b"null", unknown.encode(), wrong.encode(), delayed.encode()]


def _enqueue(client: "redis.Redis", body: bytes) -> None:
    """As dramatiq's script does, whatever the body."""
    message_id = str(uuid4())
    client.hset(f"{NAMESPACE}:{QUEUE}.msgs", message_id, body)
    client.rpush(f"{NAMESPACE}:{QUEUE}", message_id)


def test_dramatiq_keeps_its_queue_where_this_test_puts_garbage(environment: Settings, servers: LocalServers) -> None:
    broker = make_broker(servers.broker_url)
    try:
        broker.top_up(1)
        assert broker.client.llen(f"{NAMESPACE}:{QUEUE}") == 1
        assert broker.client.hlen(f"{NAMESPACE}:{QUEUE}.msgs") == 1
    finally:
        broker.flush_all()
        broker.close()
        broker.client.close()
