"""The relay's part of pruning: once a day, a little in each of its rounds."""

import time
from collections.abc import Iterator

from worker.config import Settings
from worker.database import Database
from worker.reports.prune import Pruned, kept, prune

_EVERY = 24 * 3600.0
"""Seconds from the end of one prune to the next."""
_AT_ONCE = 0.3
"""Seconds of a round after which no further transaction is begun."""


class DailyPrune:
    """Prunes jobs and receipts, if the settings say so. The audit is left: the service may not delete from it."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._days = kept(settings, "jobs", "receipts") if settings.prune_daily else {}
        self._next = 0.0
        self._running: Iterator[Pruned] | None = None

    def step(self) -> None:
        """Go on for a moment. A failure ends this prune; the next round begins a new one."""
        began = time.monotonic()
        if not self._days or (self._running is None and began < self._next):
            return
        running = self._running or prune(self._database, self._days, actor="relay")
        self._running = None
        while next(running, None) is not None:
            if time.monotonic() > began + _AT_ONCE:
                self._running = running
                return
        self._next = time.monotonic() + _EVERY
