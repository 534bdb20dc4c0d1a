"""Rate limits: refused calls by address, counted in Redis for all web processes; those of a caller, in each process.

Redis only counts here. Without Redis every call passes: to refuse work because a counter is missing would turn a small
fault into a large one. A call that is let in asks Redis nothing. Where RabbitMQ is the broker, each web process counts
refused calls for itself.
"""

import math
import threading
import time
from collections.abc import Hashable

import redis
import structlog
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from worker.faults import describe
from worker.queue import redis_clients
from worker.queue.hints import is_rabbitmq

log = structlog.get_logger(__name__)

TIMEOUT = 0.25
"""Seconds that a request waits for Redis at most."""
PAUSE = 5.0
"""Seconds without counting after Redis did not answer, so that not every request waits for it."""


class CallLimiter:
    """Counts the calls of each token or member in this process alone, so that no call waits for it.

    The generic cell rate algorithm (ITU-T I.371): those of a minute may come at once, then one comes free at a time.
    """

    def __init__(self) -> None:
        self._free_at: dict[Hashable, float] = {}
        """When the calls so far, evenly spread, would be over. It has one entry for each caller."""
        self._lock = threading.Lock()

    def retry_after(self, caller: Hashable, per_minute: int) -> int | None:
        """Count a call. None when it may pass, else the seconds to wait; 0 `per_minute`: no limit."""
        if per_minute == 0:
            return None
        now = time.monotonic()
        with self._lock:
            over = max(self._free_at.get(caller, now), now) + 60 / per_minute
            if over <= now + 60:
                self._free_at[caller] = over
                return None
        return max(math.ceil(over - now - 60), 1)


class RateLimiter:
    """Counts refused calls by address. When Redis is out of reach, every call passes, and the log says so once."""

    def __init__(self, broker_url: str, *, pause: float = PAUSE) -> None:
        """`pause`: seconds without counting after Redis did not answer."""
        self._limits = SlidingWindowCounterRateLimiter(_storage(broker_url))
        self._pause = pause
        self._paused_until = 0.0
        self._unavailable = False
        self._lock = threading.Lock()

    def retry_after(self, key: str, per_minute: int) -> int | None:
        """Count a call. None when it may pass, else the seconds after which to try again; 0 `per_minute`: no limit."""
        if per_minute == 0 or time.monotonic() < self._paused_until:
            return None
        try:
            item = RateLimitItemPerMinute(per_minute)
            passes = self._limits.hit(item, key)
            wait = None if passes else self._limits.get_window_stats(item, key).reset_time - time.time()
        except redis.RedisError as error:
            self._note_failure(error)
            return None
        self._note_success()
        return None if wait is None else min(max(math.ceil(wait), 1), 60)

    def _note_failure(self, error: redis.RedisError) -> None:
        with self._lock:
            self._paused_until = time.monotonic() + self._pause
            first, self._unavailable = not self._unavailable, True
        if first:
            log.warning("rate_limits.paused", error_class=describe(error)[0])

    def _note_success(self) -> None:
        if not self._unavailable:
            return
        with self._lock:
            first, self._unavailable = self._unavailable, False
        if first:
            log.info("rate_limits.resumed")


def _storage(broker_url: str) -> MemoryStorage | RedisStorage:
    if is_rabbitmq(broker_url):
        return MemoryStorage()
    client = redis_clients.connect(broker_url, timeout=TIMEOUT, connect_timeout=TIMEOUT, retries=0)
    return RedisStorage("redis://", connection_pool=client.connection_pool, key_prefix="withdrawals:limit")
