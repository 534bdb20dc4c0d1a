"""What is read from the provider and kept: metadata and keys."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from worker.sign_on.errors import ProviderUnreachableError
from worker.texts import text

T = TypeVar("T")

FAILED_SECONDS = 5.0
"""For so long after a failure nobody asks again: a provider that hangs must not hold every thread that serves pages."""
WAIT_SECONDS = 2.0
"""How long a request waits for another one that reads the value for the first time."""

clock = time.monotonic


class Kept(Generic[T]):
    """A value that one request reads for all; while it cannot be read again, the one from before counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: tuple[float, T] | None = None
        self._failed: tuple[float, str] | None = None

    def get(self, seconds: float, read: Callable[[], T]) -> T:
        """The value; read again when that was longer ago than `seconds`.

        Raises:
            ProviderUnreachableError: it cannot be read, and is not known from before.
        """
        known = self._known
        if known is not None and clock() < known[0] + seconds:
            return known[1]
        if not self._lock.acquire(timeout=0 if known else WAIT_SECONDS):
            if known is not None:
                return known[1]
            raise ProviderUnreachableError(text("The provider is slow to answer."))
        try:
            return self._read(seconds, read)
        finally:
            self._lock.release()

    def _read(self, seconds: float, read: Callable[[], T]) -> T:
        known, failed = self._known, self._failed
        if known is not None and clock() < known[0] + seconds:  # read meanwhile
            return known[1]
        try:
            if failed is not None and clock() < failed[0] + FAILED_SECONDS:
                raise ProviderUnreachableError(failed[1])
            try:
                value = read()
            except ProviderUnreachableError as error:
                self._failed = (clock(), str(error))
                raise
        except ProviderUnreachableError:
            if known is None:
                raise
            return known[1]
        self._known, self._failed = (clock(), value), None
        return value
