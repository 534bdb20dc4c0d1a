"""How often one may call: a sliding minute for each key, counted in Redis, shared by all web processes.

Redis only counts here. Without it everything is let through: to refuse work because a counter is gone would
turn a small fault into a large one.
"""

import math
import threading
import time

import redis
import structlog
from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.errors import describe

log = structlog.get_logger(__name__)

PATIENCE = 0.25
"""Seconds that a request waits for Redis at the most."""
REST = 5.0
"""Seconds without counting after Redis did not answer, so that not every request waits for it."""


class Limiter:
    """Counts calls by key; fails open, and says so once."""

    def __init__(self, broker_url: str, *, rest: float = REST) -> None:
        pool = redis.ConnectionPool.from_url(
            broker_url,
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 0),
        )
        storage = RedisStorage("redis://", connection_pool=pool, key_prefix="withdrawals:limit")
        self._limits = SlidingWindowCounterRateLimiter(storage)
        self._rest_until = 0.0
        self._rest_for = rest
        self._gone = False
        self._lock = threading.Lock()

    def retry_after(self, key: str, per_minute: int) -> int | None:
        """Count a call; None when it may pass, else the seconds after which to try again."""
        if per_minute == 0 or time.monotonic() < self._rest_until:
            return None
        item = RateLimitItemPerMinute(per_minute)
        try:
            passes = self._limits.hit(item, key)
            wait = None if passes else self._limits.get_window_stats(item, key).reset_time - time.time()
        except redis.RedisError as error:
            self._rest(error)
            return None
        self._counts_again()
        return None if wait is None else min(max(math.ceil(wait), 1), 60)

    def _rest(self, error: redis.RedisError) -> None:
        with self._lock:
            self._rest_until = time.monotonic() + self._rest_for
            first, self._gone = not self._gone, True
        if first:
            log.warning("limits.not_counted", error_class=describe(error)[0])

    def _counts_again(self) -> None:
        if not self._gone:
            return
        with self._lock:
            first, self._gone = self._gone, False
        if first:
            log.info("limits.counted_again")
