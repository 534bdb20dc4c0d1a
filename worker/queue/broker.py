"""Dramatiq's Redis broker, used for hints that work is due and for nothing else.

Dramatiq's consumer sleeps, longer and longer, while its queue is empty: half a second and more before an idle
system notices a message. This one waits on a doorbell, a list that the publisher pushes to after each hint,
with a blocking read. It overrides `_RedisConsumer.__next__` of dramatiq 2.2; a test pins that minor version,
and `ops/decisions/0005-doorbell.md` says why.
"""

import threading
from typing import Any, cast

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.common import current_millis
from dramatiq.errors import ConnectionClosed

from worker.queue import redis_clients
from worker.queue.hints import ACTOR, NAMESPACE, QUEUE, QUEUES, TIMEOUT, Hints, hint, is_rabbitmq

BELLS = {queue: f"{NAMESPACE}:bell" + (f":{queue}" if queue != QUEUE else "") for queue in QUEUES}
_BELL_WAIT = 1.0  # seconds; bounds how long a shutdown waits for an idle consumer
CONSUMER_TIMEOUT = 5.0
"""Seconds that a consumer waits for an answer: longer than `_BELL_WAIT`, which it spends waiting in Redis."""


class DoorbellConsumer(_RedisConsumer):
    """Wakes when the bell rings, or when one of its own messages is done and it has room again."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._room = threading.Event()
        self._has_waited = False
        """Whether the last look was one that waited for the bell, and found nothing: then the next one waits, too."""

    def __next__(self) -> Any:
        if self.message_cache:
            return super().__next__()
        try:
            free = self.prefetch - self.outstanding_message_count
            if free <= 0:
                self._room.wait(_BELL_WAIT)
                self._room.clear()
                return None
            if not self._has_waited:
                self.message_cache = self.broker.do_fetch(self.queue_name, free)
            if not self.message_cache:
                self.message_cache = self.broker.wait_and_fetch(self.queue_name, free)
            self._has_waited = not self.message_cache
            if self._has_waited:
                return None
        except (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError) as error:
            raise ConnectionClosed(error) from None  # read-only: it was the master until now
        return super().__next__()

    def ack(self, message: Any) -> None:
        try:
            super().ack(message)
        finally:
            self._room.set()

    def nack(self, message: Any) -> None:
        try:
            super().nack(message)
        finally:
            self._room.set()


# What dramatiq does to enqueue, for as many of the given messages as are missing, and the bell: one round trip.
_FILL = """
local missing = math.min(ARGV[1] - redis.call("llen", KEYS[1]), (#ARGV - 1) / 2)
for n = 1, missing do
    redis.call("hset", KEYS[2], ARGV[2 * n], ARGV[2 * n + 1])
    redis.call("rpush", KEYS[1], ARGV[2 * n])
    redis.call("lpush", KEYS[3], "1")
end
if missing > 0 then
    redis.call("ltrim", KEYS[3], 0, ARGV[1] - 1)
end
return math.max(missing, 0)
"""


class HintBroker(RedisBroker, Hints):
    """Hints in Redis, in one list a queue, with a doorbell beside it."""

    errors = (redis.RedisError,)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._fill = self.client.register_script(_FILL)

    def ping(self) -> None:
        """Ask Redis for an answer."""
        self.client.ping()

    def wait_and_fetch(self, queue_name: str, most: int) -> list[bytes]:
        """Wait a while for the bell, and fetch what is there then: both are sent at once, and are one round trip.

        The arguments are those of dramatiq's own `do_fetch`.
        """
        sent = self.client.pipeline(transaction=False)
        sent.blpop([BELLS[queue_name]], timeout=_BELL_WAIT)
        own = (self.broker_id, self.heartbeat_timeout, self.dead_message_ttl, self._should_do_maintenance("fetch"))
        given = ("fetch", current_millis(), queue_name, *own, self._max_unpack_size(), most)
        sent.evalsha(self.scripts["dispatch"].sha, 1, self.namespace, *given)
        rung, fetched = sent.execute(raise_on_error=False)
        if isinstance(fetched, redis.exceptions.NoScriptError):  # another server, or one that was restarted
            return cast(list[bytes], self.do_fetch(queue_name, most))
        for answer in (rung, fetched):
            if isinstance(answer, Exception):
                raise answer
        return cast(list[bytes], fetched)

    @property
    def consumer_class(self) -> type[DoorbellConsumer]:
        return DoorbellConsumer

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue without its delay queue: nothing here is ever delayed in Redis."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def top_up(self, wanted: int, *, queue: str = QUEUE, actor: str = ACTOR) -> int:
        """Bring the list of a queue's waiting hints up to `wanted`; how many were added.

        Counts the list itself (`LLEN`): dramatiq's own size includes what dead workers never acknowledged.
        """
        names = f"{self.namespace}:{queue}"
        # One is asked for after a lull, when nobody works before it is there.
        missing = wanted if wanted == 1 else wanted - cast(int, self.client.llen(names))
        if missing <= 0:
            return 0
        hints = [hint(queue, actor) for _ in range(missing)]
        values = [part for one in hints for part in (one.message_id, _with_redis_id(one).encode())]
        return cast(int, self._fill(keys=[names, f"{names}.msgs", BELLS[queue]], args=[wanted, *values]))


def _with_redis_id(one: dramatiq.Message[Any]) -> dramatiq.Message[Any]:
    """A message as dramatiq stores it: its consumer acknowledges it by this id."""
    return one.copy(options={"redis_message_id": one.message_id})


def make_broker(
    url: str, middleware: list[dramatiq.Middleware] | None = None, client: Any = None, *, timeout: float = TIMEOUT
) -> HintBroker:
    """Hints over Redis, without dramatiq's own retries, delays and limits; `client` replaces the connection (tests).

    `timeout`: seconds. A Redis that hangs is not asked again. A connection that Redis has closed, as after a restart,
    is made again once.
    """
    client = client or redis_clients.connect(url, timeout=timeout, connect_timeout=TIMEOUT)
    broker = HintBroker(client=client, namespace=NAMESPACE, middleware=middleware or [])
    for queue in BELLS:
        broker.declare_queue(queue)
    return broker


def open_broker(url: str, middleware: list[dramatiq.Middleware] | None = None, *, timeout: float = TIMEOUT) -> Hints:
    """The broker that `BROKER_URL` names: Redis, or RabbitMQ (`amqp://`).

    Raises:
        SettingsError: the URL cannot be read, or what it needs is not installed.
    """
    if is_rabbitmq(url):
        from worker.queue.rabbitmq import make_rabbitmq  # noqa: PLC0415 - its client is an extra

        return make_rabbitmq(url, middleware)
    return make_broker(url, middleware, timeout=timeout)
